"""The program that `make types` checks as a user's own runs: its types are not only said."""

import pytest

from tests.typing import user_program


@pytest.mark.nightly
@pytest.mark.usefixtures("standard_promotion")
def test_the_typed_program_runs(capsys):
    user_program.main()
    assert "±" in capsys.readouterr().out
