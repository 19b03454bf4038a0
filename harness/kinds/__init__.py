"""The kinds of subject: a module each, and the registry through which all else knows them."""
