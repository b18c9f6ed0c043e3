"""The processes that train together: how they start, agree, fail and end."""
