"""Prints the catalogue as a page of documentation."""

import argparse
import sys

from firmware_profiles import catalog, page


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m firmware_profiles",
        description="Check every hardware profile and print the catalogue as Markdown.",
        epilog="example: python -m firmware_profiles > docs/hardware-profiles.md",
    )
    parser.parse_args(arguments)
    try:
        profiles = catalog.load_all()
    except catalog.ProfileError as error:
        sys.stderr.write(f"firmware_profiles: {error}\n")
        return 2
    sys.stdout.write(page.render(profiles))
    return 0


if __name__ == "__main__":
    sys.exit(main())
