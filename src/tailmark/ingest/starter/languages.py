"""The taxonomy's languages, and the locales that translations of them are filed under."""

LOCALES = {
    "Arabic": "ar",
    "Chinese": "zh_Hans",
    "Czech": "cs",
    "Dutch": "nl",
    "English": "en",
    "French": "fr",
    "German": "de",
    "Greek": "el",
    "Hebrew": "he",
    "Hindi": "hi",
    "Indonesian": "id",
    "Italian": "it",
    "Japanese": "ja",
    "Korean": "ko",
    "Persian": "fa",
    "Polish": "pl",
    "Portuguese": "pt_BR",
    "Romanian": "ro",
    "Russian": "ru",
    "Spanish": "es",
    "Turkish": "tr",
    "Ukrainian": "uk",
    "Vietnamese": "vi",
}
"""Marker value to CLDR locale."""

BY_CODE = {locale.split("_")[0]: name for name, locale in LOCALES.items()}
"""ISO 639-1 code to marker value."""
