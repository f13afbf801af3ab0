"""What a rig reports when the world did not do what a scenario waited for."""


class RigError(Exception):
    """Something that a scenario needs did not happen; the text says what and where to look."""


class NotInTime(RigError):
    """A condition did not come true before its deadline."""


class ProgramFailed(RigError):
    """A program ended, or answered with an error, where it should not have."""


class Refused(ProgramFailed):
    """The server does not take what it was given; the text is the server's own and names the field."""


class BadHome(RigError):
    """The folder for a run is not one that a run may wipe."""


class BadScenario(RigError):
    """A scenario file that cannot be used; the text names the field and its limit."""
