"""Which licenses commands accept, and the errors for others."""

import pytest

from avt_distill.sharing.licenses import checked_license


@pytest.mark.parametrize("identifier", ["apache-2.0", "mit", "cc-by-nc-sa-4.0", "openrail++", "llama3.1"])
def test_identifiers_of_the_hub_are_taken(identifier):
    assert checked_license(identifier) == {"license": identifier}


def test_no_license_is_invented():
    assert checked_license(None) == {}


@pytest.mark.parametrize(
    ("identifier", "advice"),
    [("Apache 2.0", "write apache-2.0"), ("MIT", "write mit"), ("", "such as apache-2.0"), ("mit; x", "such as")],
)
def test_invalid_identifiers_are_refused_with_advice(identifier, advice):
    with pytest.raises(ValueError, match=rf"^--license is '{identifier}', which is not an identifier .*{advice}"):
        checked_license(identifier)


def test_a_license_of_ones_own_has_a_name_and_a_link():
    fields = {"license": "other", "license_name": "research-only", "license_link": "LICENSE"}
    assert checked_license("other", "research-only", "LICENSE") == fields
    for given in [("other",), ("other", "research-only"), ("mit", "x", "LICENSE"), (None, "x", "LICENSE"), (None, "x")]:
        with pytest.raises(ValueError, match="'other' needs a name and a link"):
            checked_license(*given)
