"""`python -P -m plugrad`: the same as `plugrad`. Without -P, Python itself imports files of the working directory."""

if __name__ == "__main__":
    from plugrad.launcher_watch import end_with_launcher

    # Before the imports that take time.
    end_with_launcher()
    from plugrad.cli.main import main

    main()
