"""`full-field`: the whole transport equation over the whole image."""
