import pytest

from tests.helpers import small_cvae


@pytest.fixture(scope="package")
def trained():
    return small_cvae.random_parameters(small_cvae.build())
