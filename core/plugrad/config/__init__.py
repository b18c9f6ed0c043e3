"""The run file: its tables, how it is read, overridden and written."""
