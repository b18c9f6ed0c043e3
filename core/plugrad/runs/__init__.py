"""The run files of `plugrad quickstart`. Read and copy them."""
