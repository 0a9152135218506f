"""The command line: `fedlearn train`, `sweep`, `evaluate`, ...

A file for each command; `main` finds the command and reads its flags. Neither
imports a backend before a command needs one, so that help is quick.
"""
