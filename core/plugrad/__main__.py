"""`python -P -m plugrad`: the same as `plugrad`. Without -P, Python itself imports files of the working directory."""

if __name__ == "__main__":
    from plugrad.cli.main import main

    main()
