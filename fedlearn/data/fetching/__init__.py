"""Getting public files onto this machine, whole and once."""
