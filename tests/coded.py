"""What an InputError must hold: `pytest.raises(InputError, check=coded("shape-mismatch"))`."""


def coded(*codes, names=()):
    """Return a check for the codes of an error, in order, and for what its text must name."""

    def check(error):
        return error.codes == codes and all(name in str(error) for name in names)

    return check
