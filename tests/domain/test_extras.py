"""What is said when a package cannot be imported."""

import pytest

from zhiyin.domain.errors import MissingExtra
from zhiyin.domain.extras import from_extra

MISSING = r"'no_such_package'(.|\n)*zhiyin\[language\]"


def test_what_is_missing_is_named_with_what_installs_it():
    with (
        pytest.raises(MissingExtra, match=MISSING),
        from_extra("language"),
    ):
        import no_such_package.inside  # noqa: F401


@pytest.mark.parametrize(("package", "named"), [("wandb", "wandb"), ("", "trackers")])
def test_an_error_that_names_nothing_gets_a_name(package, named):
    with pytest.raises(MissingExtra, match=f"'{named}'"), from_extra("trackers", package):
        raise ModuleNotFoundError("run pip install")


def test_a_package_that_lacks_what_is_asked_of_it_is_named_too():
    with pytest.raises(MissingExtra, match="'numpy', which cannot be used as it is"), from_extra("language"):
        from numpy import no_such_thing  # noqa: F401


def test_a_mistake_of_our_own_is_no_missing_package():
    with pytest.raises(ImportError, match="no_such_thing"), from_extra("language"):
        from zhiyin.domain.errors import no_such_thing  # noqa: F401
