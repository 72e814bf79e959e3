"""License options, which are checked before anything is uploaded."""

import argparse
import re

# The Hub's list of identifiers is not in any library, so only the form is checked here; the Hub refuses unknown ones.
_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.+-]*")
LIST_OF_LICENSES = "https://huggingface.co/docs/hub/repositories-licenses"
OTHER = "other"
NONE_STATED = (
    "%s states no license, without which nobody may use it: give --license ID to avt-distill %s, such as apache-2.0, "
    "mit or cc-by-4.0."
)


def add_license_options(parser: argparse.ArgumentParser):
    """Adds the options that name a license; see `checked_license`."""
    default = "Default: that of the existing card"
    parser.add_argument("--license", metavar="ID", help=f"for the card, such as apache-2.0 or {OTHER}. {default}")
    parser.add_argument("--license_name", metavar="NAME", help=f"short name of a license that is '{OTHER}'")
    parser.add_argument("--license_link", metavar="URL", help="of its text; or LICENSE, a file in the repository")


def checked_license(identifier: str | None, name: str | None = None, link: str | None = None) -> dict[str, str]:
    """Returns the license fields of a card; empty if no license is given.

    Args:
        identifier (`str`, *optional*): Identifier in the Hub's list, such as `"apache-2.0"`, or `"other"`.
        name, link (`str`, *optional*): Name and link of a license that the Hub does not list; both are required then.

    Raises:
        ValueError: If the identifier is invalid, or a name or link is given without `"other"` or the other way round.
    """
    if identifier is not None and not _IDENTIFIER.fullmatch(identifier):
        lower = re.sub(r"\s+", "-", identifier.strip().lower())
        advice = f"write {lower}" if _IDENTIFIER.fullmatch(lower) else "write one such as apache-2.0"
        raise ValueError(
            f"--license is {identifier!r}, which is not an identifier of a license: {advice}, and see "
            f"{LIST_OF_LICENSES}."
        )
    if (identifier == OTHER) != (name is not None and link is not None) or (name is None) != (link is None):
        raise ValueError(
            f"--license is {identifier}, --license_name {name} and --license_link {link}: '{OTHER}' needs a name and a "
            "link, and a license of the Hub's list needs neither."
        )
    fields = {"license": identifier, "license_name": name, "license_link": link}
    return {field: value for field, value in fields.items() if value is not None}
