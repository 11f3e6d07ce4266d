"""What can be measured of a text: lengths, language, format, code. Shared by `annotate`, `validate` and `evaluate`.

Import from the modules: `lengths` loads spaCy and `language` py3langid, which takes a second.
"""
