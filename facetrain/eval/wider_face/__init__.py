"""WIDER FACE as its official files have it: images, boxes, and which of them count in easy, medium and hard."""
