"""What an InputError must hold: `pytest.raises(InputError, check=coded("shape-mismatch"))`."""


def coded(*codes):
    """Return a check for the codes of an error, in order."""
    return lambda error: error.codes == codes
