"""Names of languages: what models call them, and what ISO 639-1 calls them."""

from collections.abc import Iterable, Mapping
from typing import Final

_M2M100 = (
    "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu "
    "ha he hi hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr "
    "ms my ne nl no ns oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk "
    "ur uz vi wo xh yi yo zh zu"
)
M2M100: Final = _M2M100.split()
"""The languages of M2M-100 in the order of their ids, which its files do not hold."""

_WMT21 = "en ha is ja cs ru zh de"
WMT21: Final = _WMT21.split()
"""The same of the models of its kind that were made for WMT 2021."""

_MBART50 = (
    "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT "
    "lv_LV my_MM ne_NP nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN af_ZA az_AZ bn_IN fa_IR he_IL "
    "hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE sw_KE ta_IN te_IN "
    "th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI"
)
MBART50: Final = _MBART50.split()
"""The languages of mBART-50, likewise."""

_PAIRS = (
    "afr:af amh:am arb:ar ara:ar asm:as azj:az aze:az bak:ba bel:be ben:bn bod:bo bos:bs "
    "bul:bg cat:ca ces:cs cym:cy dan:da deu:de dzo:dz ell:el eng:en epo:eo est:et eus:eu "
    "ewe:ee fao:fo fij:fj fin:fi fra:fr gaz:om gla:gd gle:ga glg:gl grn:gn guj:gu hat:ht "
    "hau:ha heb:he hin:hi hrv:hr hun:hu hye:hy ibo:ig ind:id isl:is ita:it jav:jv jpn:ja "
    "kan:kn kas:ks kat:ka kaz:kk khk:mn mon:mn khm:km kik:ki kin:rw kir:ky knc:kr kon:kg "
    "kor:ko kmr:ku lao:lo lav:lv lim:li lin:ln lit:lt ltz:lb lug:lg lvs:lv mal:ml mar:mr "
    "mkd:mk plt:mg mlg:mg mlt:mt mri:mi zsm:ms msa:ms mya:my nld:nl nno:nn nob:nb npi:ne "
    "nep:ne nya:ny oci:oc ory:or ori:or pan:pa pes:fa fas:fa pol:pl por:pt pbt:ps pus:ps "
    "quy:qu ron:ro run:rn rus:ru sag:sg san:sa sin:si slk:sk slv:sl smo:sm sna:sn snd:sd "
    "som:so sot:st spa:es als:sq sqi:sq srd:sc srp:sr ssw:ss sun:su swe:sv swh:sw swa:sw "
    "tam:ta tat:tt tel:te tgk:tg tgl:tl tha:th tir:ti tsn:tn tso:ts tuk:tk tur:tr twi:tw "
    "uig:ug ukr:uk urd:ur uzn:uz uzb:uz vie:vi wol:wo xho:xh ydd:yi yid:yi yor:yo zho:zh "
    "cmn:zh zul:zu"
)
_TWO_LETTERS: Final[Mapping[str, str]] = dict(pair.split(":") for pair in _PAIRS.split())
"""Of ISO 639-3 codes, those of single languages that stand for the whole included."""

_SHORT = 2


def plain_code(code: str) -> str:
    """Return the language of a code such as `eng_Latn`, `en_XX`, `fra`; of two letters if it can.

    A script or a region is left out, so that several codes may come to the same.
    """
    language = code.replace("-", "_").partition("_")[0].lower()
    return language if len(language) == _SHORT else _TWO_LETTERS.get(language, language)


def by_any_name(codes: Iterable[str]) -> Mapping[str, str]:
    """Return the codes by every name that means one of them only; names are in lower case."""
    known = list(codes)
    exact = {code.lower(): code for code in known}
    plain: dict[str, list[str]] = {}
    for code in known:
        plain.setdefault(plain_code(code), []).append(code)
    alone = {name: found[0] for name, found in plain.items() if len(found) == 1}
    return {**alone, **exact}
