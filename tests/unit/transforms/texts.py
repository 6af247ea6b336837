"""Tokenizers made on the spot, and hostile texts."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "one", "two", "three", "four", "�"]
CLS, SEP = 2, 3


def word_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    tokenizer.add_special_tokens(WORDS[:4])
    return tokenizer


def byte_tokenizer() -> Tokenizer:
    """Reads any text, byte by byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


HOSTILE = {
    "lone high surrogate": "\ud800",
    "lone low surrogate": "a\udfff",
    "surrogates the wrong way round": "\udc00\ud800",
    "a surrogate pair in two halves": "\ud83d\ude00",
    "nul": "a\0b",
    "every control character": "".join(map(chr, range(32))) + "x",
    "noncharacters": "\ufffe\uffff\U0010ffff",
    "private use": "\ue000\uf8ff",
    "byte order mark": "\ufeffone",
    "right to left override": "\u202eone\u202c",
    "zero width": "o\u200bn\u200de",
    "a hundred combining marks": "e" + "\u0301" * 100,
    "joined emoji": "👩‍👩‍👧‍👦" * 20,
    "flags": "🇨🇭🇨🇳",
    "han": "一二三四五六七八九十",
    "one word without an end": "a" * 100_000,
    "a hundred thousand words": "one " * 100_000,
    "only punctuation": "!?" * 500,
    "special tokens spelt out": "[CLS] [SEP] [PAD] [MASK] </s>",
    "a number": "1" * 400,
    "html": "<script>alert(1)</script>",
    "sql": "'; DROP TABLE items; --",
    "template": "{{7*7}} ${HOME} %s %n",
    "newlines of every kind": "one\r\ntwo\u2028three\x85four",
    "tags": "".join(map(chr, range(0xE0020, 0xE007F))),
}
