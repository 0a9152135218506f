"""The command line: `fedlearn train`, `fedlearn evaluate`, `fedlearn report`.

A file for each command; `main` finds the command and reads its flags. Neither
imports a backend before a command needs one, so that help is quick.
"""
