import pytest

from tests.helpers import small_mdn


@pytest.fixture(scope="package")
def built():
    return small_mdn.build()
