"""`python -m plugrad`: the same as `plugrad`."""

from plugrad.cli.main import main

if __name__ == "__main__":
    main()
