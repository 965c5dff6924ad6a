// What part of the image is seen: one view, shared by all images. Pixel i covers i to i + 1.

const LARGEST = 64; // pixels of the page for a pixel of the image

class View {
  constructor([height, width]) {
    this.height = height;
    this.width = width;
    this.fitted = true;
    this.x = width / 2;
    this.y = height / 2;
    this.scale = 1; // pixels of the page for a pixel of the image
  }

  /** Take the size of an image on the page. */
  resize(width, height) {
    this.pageWidth = width;
    this.pageHeight = height;
    this.least = Math.min(width / this.width, height / this.height);
    if (this.fitted) this.fit();
    else this.limit();
  }

  /** Show the whole image. */
  fit() {
    this.fitted = true;
    this.scale = this.least;
    this.x = this.width / 2;
    this.y = this.height / 2;
  }

  /** Show a pixel of the image as a pixel of the screen. */
  actual() {
    this.zoom(1 / devicePixelRatio / this.scale, this.pageWidth / 2, this.pageHeight / 2);
  }

  /** Zoom about a place on the page. */
  zoom(factor, px, py) {
    const [x, y] = this.toImage(px, py);
    this.scale = Math.min(LARGEST, Math.max(this.least, this.scale * factor));
    this.x = x - (px - this.pageWidth / 2) / this.scale;
    this.y = y - (py - this.pageHeight / 2) / this.scale;
    this.fitted = this.scale <= this.least * (1 + 1e-9);
    if (this.fitted) this.fit();
    else this.limit();
  }

  /** Move by pixels of the page. */
  pan(dx, dy) {
    this.x -= dx / this.scale;
    this.y -= dy / this.scale;
    this.limit();
  }

  /** Bring a place of the image into view. */
  reveal(x, y) {
    const [px, py] = this.toPage(x, y);
    const edge = 16;
    if (px < edge || px > this.pageWidth - edge) this.x = x;
    if (py < edge || py > this.pageHeight - edge) this.y = y;
    this.limit();
  }

  limit() {
    const keep = (centre, size, page) => {
      const half = page / 2 / this.scale;
      return 2 * half >= size ? size / 2 : Math.min(size - half, Math.max(half, centre));
    };
    this.x = keep(this.x, this.width, this.pageWidth);
    this.y = keep(this.y, this.height, this.pageHeight);
  }

  toImage(px, py) {
    return [this.x + (px - this.pageWidth / 2) / this.scale, this.y + (py - this.pageHeight / 2) / this.scale];
  }

  toPage(x, y) {
    return [(x - this.x) * this.scale + this.pageWidth / 2, (y - this.y) * this.scale + this.pageHeight / 2];
  }
}
