"""The run file: its tables, and how it is read, overridden and written."""
