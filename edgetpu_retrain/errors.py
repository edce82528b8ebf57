"""The one error that is meant for the person at the keyboard."""


class UserError(Exception):
    """Something the user can put right; its text says what is wrong, where, and what to do.

    Scripts print the text alone, without a traceback.
    """
