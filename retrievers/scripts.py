"""Scripts whose characters carry about as much as a word piece: Han, kana, Hangul and others.

They are written without spaces, or with few.
"""

CHARACTERS = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u109f\u1780-\u17d3"
    "\u3005\u3007\u3041-\u3096\u3099-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003134f"
)
"""What stands between brackets in a regular expression."""

LANGUAGES = frozenset({"ja", "km", "ko", "lo", "my", "th", "yue", "zh"})
"""Codes of languages written so."""
