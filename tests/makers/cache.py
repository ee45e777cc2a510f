"""Files as old as a test wants them."""

import datetime
import os


def aged(path, **ago) -> None:
    then = (datetime.datetime.now() - datetime.timedelta(**ago)).timestamp()
    os.utime(path, (then, then))
