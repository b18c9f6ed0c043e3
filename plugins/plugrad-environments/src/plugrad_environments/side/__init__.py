"""Processes beside the training, in which completions are judged by code that may hang, crash or run what it reads."""
