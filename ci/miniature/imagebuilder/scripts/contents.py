"""What a package of either format holds."""


class Entry:
    """A file, folder or link: relative path, kind, mode, and content or target."""

    def __init__(self, path, kind, mode, content):
        self.path = path
        self.kind = kind
        self.mode = mode
        self.content = content


class Contents:
    """Entries, maintainer scripts by name, the package's description, and its identity (apk)."""

    def __init__(self, entries, scripts, row, identity=None):
        self.entries = entries
        self.scripts = scripts
        self.row = row
        self.identity = identity
