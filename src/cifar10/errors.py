"""The one exception that means: the input is wrong, not the program."""


class InputError(Exception):
    """A file, a parameter or an order of commands that the user can put right.

    Its message is one clear sentence or two: what is wrong, where, and what to do. The command line prints it
    without a traceback.
    """
