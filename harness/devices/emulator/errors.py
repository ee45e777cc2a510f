"""The one exception of the emulator."""


class EmulatorError(RuntimeError):
    """The emulator cannot be built, loaded or used; the message is one sentence with a remedy."""
