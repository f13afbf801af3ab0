"""`python -m model_tools`."""

from model_tools.cli import main

if __name__ == "__main__":
    main()
