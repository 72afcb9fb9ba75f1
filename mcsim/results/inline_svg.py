"""A picture as a part of a page: nothing in it is meant for others, or looks for anything."""

from __future__ import annotations

from xml.etree import ElementTree


def inline(svg: str, prefix: str, title: str, words: str) -> str:
    """An SVG file as an element of HTML, with a title and a description in words.

    prefix: of all names inside, which in a page have to differ from those of other pictures. Its
    size is that of its place; its metadata and declarations are left out.
    """
    root = ElementTree.fromstring(svg)
    for parent in root.iter():
        for child in [*parent]:
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        attributes = {_local(name): value for name, value in element.items()}
        element.attrib.clear()
        for name, value in attributes.items():
            element.set(name, _renamed(name, value, prefix))
    root.attrib.pop("width", None)
    root.attrib.pop("height", None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}title {prefix}words")
    # What the style sheet says of everything in the file, and would say of the page.
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    for place, (kind, name, text) in enumerate(
        (("title", "title", title), ("desc", "words", words))
    ):
        element = ElementTree.Element(kind, id=prefix + name)
        element.text = text
        root.insert(place, element)
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    """A name without its namespace, which HTML knows of itself."""
    return name.rpartition("}")[2]


def _renamed(name: str, value: str, prefix: str) -> str:
    """The value of an attribute, where it is or holds a name inside the picture with the prefix."""
    if name == "id":
        return prefix + value
    if name == "href":
        return value.replace("#", f"#{prefix}", 1)
    # Also inside of `style`, where a colour is no name.
    return value.replace("url(#", f"url(#{prefix}")
