"""Any answer and any item of every task, for property tests."""

from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.tasks import (
    Alternative,
    Answer,
    AnyItem,
    Classification,
    ClassifyItem,
    DetectedObject,
    Detections,
    DetectItem,
    Embedding,
    EmbedItem,
    FinishReason,
    GenerateItem,
    Generation,
    Image,
    Inference,
    InferItem,
    KeptTerm,
    Label,
    Mask,
    TaggedSpan,
    Tagging,
    TagItem,
    Task,
    Text,
    TranslateItem,
    Translation,
)

scores = st.floats(allow_nan=False, allow_infinity=False)
sizes = st.integers(1, 2**31)

_shapes = hnp.array_shapes(min_dims=0, min_side=0, max_side=3)
tensors = st.dictionaries(
    st.text(),
    st.sampled_from(["bool", "int8", "uint64", "float16", "float64"]).flatmap(
        lambda dtype: hnp.arrays(dtype, _shapes)
    )
    | hnp.arrays(object, _shapes, elements=st.binary()),
    max_size=3,
)

_rings = st.lists(st.lists(st.tuples(scores, scores), max_size=3).map(tuple), max_size=3)
masks = st.builds(Mask, st.none() | st.text(), st.none() | _rings.map(tuple), st.none() | st.text())

ANSWERS: Mapping[Task, st.SearchStrategy[Answer]] = {
    Task.CLASSIFY: st.builds(
        Classification, st.lists(st.builds(Label, st.text(), scores)).map(tuple)
    ),
    Task.TAG: st.builds(
        Tagging,
        st.lists(st.builds(TaggedSpan, st.text(), scores, sizes, sizes, st.text()), max_size=5).map(
            tuple
        ),
        sizes,
    ),
    Task.TRANSLATE: st.builds(
        Translation,
        st.text(),
        st.text(),
        st.text(),
        st.booleans(),
        st.sampled_from(FinishReason),
        st.lists(
            st.builds(Alternative, st.text(), st.none() | scores, st.sampled_from(FinishReason))
        ).map(tuple),
        st.lists(st.builds(KeptTerm, st.text(), st.text(), st.booleans())).map(tuple),
    ),
    Task.GENERATE: st.builds(
        Generation,
        st.text(),
        st.booleans(),
        st.sampled_from(FinishReason),
        st.lists(
            st.builds(Alternative, st.text(), st.none() | scores, st.sampled_from(FinishReason))
        ).map(tuple),
    ),
    Task.DETECT: st.builds(
        Detections,
        st.lists(
            st.builds(
                DetectedObject,
                st.text(),
                scores,
                st.tuples(*[scores] * 4),
                st.none() | masks,
                st.none()
                | st.lists(st.lists(scores, max_size=3).map(tuple), max_size=3).map(tuple),
                st.none() | st.tuples(*[scores] * 5),
            ),
            max_size=5,
        ).map(tuple),
        sizes,
        sizes,
    ),
    Task.EMBED: st.builds(
        Embedding, hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32))
    ),
    Task.SPARSE: st.integers(0, 9).flatmap(
        lambda size: st.builds(
            Embedding,
            hnp.arrays(np.float32, size, elements=st.floats(width=32)),
            hnp.arrays(np.int32, size),
        )
    ),
    Task.INFER: st.builds(Inference, tensors),
}

texts = st.text(st.characters())
images = st.builds(Image, st.binary())
contents = st.builds(Text, texts) | images
counts = st.none() | st.integers(0, 2**40)
# 0.0 equals -0.0, but is another threshold to be on the safe side
numbers = st.none() | st.floats(allow_nan=False).filter(lambda number: number != 0)

ITEMS: Mapping[Task, st.SearchStrategy[AnyItem]] = {
    Task.CLASSIFY: st.builds(ClassifyItem, contents, counts),
    Task.TAG: st.builds(
        TagItem,
        texts,
        st.sampled_from(["none", "simple", "max"]),
        counts,
        st.lists(texts, max_size=3).map(tuple),
        counts,
    ),
    Task.TRANSLATE: st.builds(
        TranslateItem,
        texts,
        st.none() | texts,
        st.none() | texts,
        counts,
        numbers,
        counts,
        st.integers(0, 9),
        st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
        st.lists(st.sampled_from(["urls", "emails", "numbers"]), max_size=3).map(tuple),
    ),
    Task.GENERATE: st.builds(
        GenerateItem,
        texts,
        st.none() | texts,
        counts,
        numbers,
        counts,
        counts,
        st.integers(0, 9),
    ),
    Task.DETECT: st.builds(
        DetectItem,
        images,
        numbers,
        numbers,
        counts,
        st.none() | st.sampled_from(["rle", "polygons", "png", "none"]),
    ),
    Task.EMBED: st.builds(EmbedItem, contents),
    Task.SPARSE: st.builds(EmbedItem, contents, form=st.just("sparse")),
    Task.INFER: st.builds(InferItem, tensors),
}
