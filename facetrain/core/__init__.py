"""What every other room uses, using none of them: faces, boxes, images, files, errors."""
