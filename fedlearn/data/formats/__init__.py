"""File formats: each module reads or writes one.

A reader returns a source (`fedlearn.data.sources`); what is wrong with a file
is a `FormatError`.
"""
