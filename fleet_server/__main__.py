"""`python -m fleet_server`."""

from fleet_server.cli import main

if __name__ == "__main__":
    main()
