"""Small pictures of pages on which nothing is written, drawn by torch's random generator."""

import torch
from torch import Tensor
from torch.nn import functional

SIZE = 28


def empty_pages(count: int) -> Tensor:
    """Return pictures [count, 1, 28, 28] in 0..1 on which nothing is written.

    Of one grey, with a slope of light, with noise, ruled, framed, stained, or speckled.
    """
    grey = torch.rand(count, 1, 1, 1)
    extreme = torch.rand(count, 1, 1, 1) < 0.5
    pages = torch.where(extreme, grey.round(), grey).expand(-1, -1, SIZE, SIZE).clone()
    kinds = torch.randint(7, (count,))
    for row, kind in enumerate(kinds.tolist()):
        if kind:
            _KINDS[kind - 1](pages[row, 0])
    noisy = (torch.rand(count, 1, 1, 1) < 0.3) * torch.rand(count, 1, 1, 1) * 0.12
    return (pages + torch.randn_like(pages) * noisy).clamp(0, 1)


def _other(page: Tensor) -> Tensor:
    """Return a grey that differs enough from the page's."""
    contrast = float(torch.empty(()).uniform_(0.15, 1))
    return page[0, 0] + contrast * (1 if page[0, 0] < 0.5 else -1)


def _shade(page: Tensor) -> None:
    slope = torch.rand(1, 1, 3, 3) * torch.rand(()) - 0.5
    page += functional.interpolate(slope, size=SIZE, mode="bicubic", align_corners=True)[0, 0]


def _rule(page: Tensor) -> None:
    step, first = int(torch.randint(4, 14, ())), int(torch.randint(0, 6, ()))
    ink = _other(page)
    lines = page if torch.rand(()) < 0.7 else page.T
    lines[first::step] = ink
    if torch.rand(()) < 0.3:  # squared paper
        lines.T[first::step] = ink


def _frame(page: Tensor) -> None:
    width, ink = int(torch.randint(1, 4, ())), _other(page)
    sides = [page[:width], page[-width:], page.T[:width], page.T[-width:]]
    for side in sides:
        if torch.rand(()) < 0.6:
            side[:] = ink


def _stain(page: Tensor) -> None:
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    middle, wide = torch.rand(2) * SIZE, torch.empty(2).uniform_(3, 12)
    far = ((y - middle[0]) / wide[0]) ** 2 + ((x - middle[1]) / wide[1]) ** 2
    page += (_other(page) - page[0, 0]) * (-far).exp() * torch.rand(())


def _speckle(page: Tensor) -> None:
    ink = _other(page)
    for _ in range(int(torch.randint(1, 5, ()))):
        top, left = torch.randint(0, SIZE - 2, (2,)).tolist()
        high, wide = torch.randint(1, 3, (2,)).tolist()
        page[top : top + high, left : left + wide] = ink


def _grain(page: Tensor) -> None:
    page += torch.randn_like(page) * torch.rand(()) * 0.5


_KINDS = (_shade, _rule, _frame, _stain, _speckle, _grain)
