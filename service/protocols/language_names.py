"""English names of languages."""

from collections.abc import Mapping
from typing import Final

_NAMES = (
    "af:Afrikaans am:Amharic ar:Arabic as:Assamese ast:Asturian az:Azerbaijani ba:Bashkir "
    "be:Belarusian bg:Bulgarian bn:Bengali bo:Tibetan br:Breton bs:Bosnian ca:Catalan "
    "ceb:Cebuano cs:Czech cy:Welsh da:Danish de:German dz:Dzongkha ee:Ewe el:Greek en:English "
    "eo:Esperanto es:Spanish et:Estonian eu:Basque fa:Persian ff:Fula fi:Finnish fj:Fijian "
    "fo:Faroese fr:French fy:Western_Frisian ga:Irish gd:Scottish_Gaelic gl:Galician gn:Guarani "
    "gu:Gujarati ha:Hausa he:Hebrew hi:Hindi hr:Croatian ht:Haitian_Creole hu:Hungarian "
    "hy:Armenian id:Indonesian ig:Igbo ilo:Iloko is:Icelandic it:Italian ja:Japanese jv:Javanese "
    "ka:Georgian kk:Kazakh km:Khmer kn:Kannada ko:Korean ku:Kurdish ky:Kyrgyz lb:Luxembourgish "
    "lg:Ganda li:Limburgish ln:Lingala lo:Lao lt:Lithuanian lv:Latvian mg:Malagasy mi:Maori "
    "mk:Macedonian ml:Malayalam mn:Mongolian mr:Marathi ms:Malay mt:Maltese my:Burmese "
    "nb:Norwegian_Bokmål ne:Nepali nl:Dutch nn:Norwegian_Nynorsk no:Norwegian ns:Northern_Sotho "
    "ny:Chichewa oc:Occitan om:Oromo or:Odia pa:Punjabi pl:Polish ps:Pashto pt:Portuguese "
    "rn:Rundi ro:Romanian ru:Russian rw:Kinyarwanda sa:Sanskrit sd:Sindhi sg:Sango si:Sinhala "
    "sk:Slovak sl:Slovenian sm:Samoan sn:Shona so:Somali sq:Albanian sr:Serbian ss:Swati "
    "st:Southern_Sotho su:Sundanese sv:Swedish sw:Swahili ta:Tamil te:Telugu tg:Tajik th:Thai "
    "ti:Tigrinya tk:Turkmen tl:Tagalog tn:Tswana tr:Turkish ts:Tsonga tt:Tatar ug:Uyghur "
    "uk:Ukrainian ur:Urdu uz:Uzbek vi:Vietnamese wo:Wolof xh:Xhosa yi:Yiddish yo:Yoruba "
    "yue:Cantonese zh:Chinese zu:Zulu"
)
_BY_CODE: Final[Mapping[str, str]] = {
    code: name.replace("_", " ") for code, name in (pair.split(":") for pair in _NAMES.split())
}
_SCRIPTS: Final[Mapping[str, str]] = {
    "arab": "Arabic",
    "cyrl": "Cyrillic",
    "deva": "Devanagari",
    "hans": "Simplified",
    "hant": "Traditional",
    "latn": "Latin",
    "tibt": "Tibetan",
}


def name_of(tag: str) -> str:
    """Return the English name of a language tag such as `zh-Hans`; the tag if it has none here."""
    language, *rest = tag.split("-")
    if language not in _BY_CODE:
        return tag
    more = ", ".join(_SCRIPTS.get(part.lower(), part) for part in rest)
    return f"{_BY_CODE[language]} ({more})" if more else _BY_CODE[language]
