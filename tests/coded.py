"""What an InputError must hold: `pytest.raises(InputError, check=coded("shape-mismatch"))`."""


def coded(*codes, names=()):
    """Return a check for the codes of an error, in order, and for what its text must name."""

    def check(error):
        assert error.codes == codes
        for name in names:
            assert name in str(error)
        return True

    return check
