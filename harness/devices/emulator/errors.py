"""The exceptions of the emulator."""


class EmulatorError(RuntimeError):
    """The emulator cannot be built, loaded or used; the message is one sentence with a remedy."""


class MissingSymbol(EmulatorError):
    """The emulator lacks a function that torch_npu links: the emulator is at fault."""
