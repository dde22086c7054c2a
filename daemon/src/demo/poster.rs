//! Posters: smooth drawings of 960 × 540 samples as PNG (ISO/IEC 15948), one byte for each of R, G and B.
//!
//! Video has the squares of `picture.rs`, which cost nothing to code. A page shows posters larger than that, so they have soft
//! edges, and gradients without bands: 260 to 300 kB each on the link.

use std::io::Write as _;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

use super::mixed;
use super::picture::{COLUMNS, Colour, Picture, ROWS};

/// Samples in a row.
const WIDTH: usize = 960;
/// Rows of samples.
const HEIGHT: usize = 540;
/// Samples of the side of a square of [`Picture`].
const SQUARE: f32 = (WIDTH / COLUMNS) as f32;

const TOP: Colour = Colour(24, 34, 72);
const BOTTOM: Colour = Colour(7, 9, 20);
const FAINT: Colour = Colour(120, 142, 200);

type Point = (f32, f32);

/// A drawing; samples from 0 to 255, not rounded yet.
struct Canvas(Vec<[f32; 3]>);

impl Canvas {
    /// A night sky that is lighter at the top and around `glow`.
    fn sky(glow: Point) -> Self {
        let mut canvas = Self(vec![[0.0; 3]; WIDTH * HEIGHT]);
        for (at, sample) in canvas.0.iter_mut().enumerate() {
            let (x, y) = ((at % WIDTH) as f32, (at / WIDTH) as f32);
            let distance = (x - glow.0).hypot(y - glow.1) / WIDTH as f32;
            let light = (1.0 - y / HEIGHT as f32) * 0.6 + (1.0 - distance * 2.0).max(0.0).powi(2) * 0.7;
            // An offset that differs from sample to sample by less than a level, so that no bands are seen.
            let offset = (mixed(at as u64) % 256) as f32 / 256.0 - 0.5;
            let part = light.min(1.0);
            let [top, bottom] = [TOP, BOTTOM].map(levels);
            *sample = std::array::from_fn(|it| bottom[it] + (top[it] - bottom[it]) * part + offset);
        }
        canvas
    }

    /// Paints the samples of the rectangle from `least` to `most` by the part of `colour` that `cover` gives for their centres.
    fn paint(&mut self, least: Point, most: Point, colour: Colour, cover: impl Fn(Point) -> f32) {
        let range = |from: f32, to: f32, end: usize| {
            (from.max(0.0) as usize).min(end)..(to.max(0.0) as usize + 1).min(end)
        };
        let wanted = levels(colour);
        for row in range(least.1, most.1, HEIGHT) {
            for column in range(least.0, most.0, WIDTH) {
                let part = cover((column as f32 + 0.5, row as f32 + 0.5)).clamp(0.0, 1.0);
                for (level, wanted) in self.0[row * WIDTH + column].iter_mut().zip(wanted) {
                    *level += (wanted - *level) * part;
                }
            }
        }
    }

    /// A line with round ends, `radius` thick on each side, of which `part` is painted.
    fn line(&mut self, from: Point, to: Point, radius: f32, colour: Colour, part: f32) {
        let reach = radius + 1.0;
        let least = (from.0.min(to.0) - reach, from.1.min(to.1) - reach);
        let most = (from.0.max(to.0) + reach, from.1.max(to.1) + reach);
        let (along_x, along_y) = (to.0 - from.0, to.1 - from.1);
        let square = (along_x * along_x + along_y * along_y).max(f32::EPSILON);
        self.paint(least, most, colour, |(x, y)| {
            let at = (((x - from.0) * along_x + (y - from.1) * along_y) / square).clamp(0.0, 1.0);
            let distance = (x - from.0 - at * along_x).hypot(y - from.1 - at * along_y);
            (radius + 0.5 - distance).clamp(0.0, 1.0) * part
        });
    }

    fn disc(&mut self, centre: Point, radius: f32, colour: Colour, part: f32) {
        self.line(centre, centre, radius, colour, part);
    }

    /// Light around a point that fades to nothing at `radius`.
    fn glow(&mut self, centre: Point, radius: f32, colour: Colour, part: f32) {
        let least = (centre.0 - radius, centre.1 - radius);
        let most = (centre.0 + radius, centre.1 + radius);
        self.paint(least, most, colour, |(x, y)| {
            let distance = (x - centre.0).hypot(y - centre.1) / radius;
            (1.0 - distance).max(0.0).powi(2) * part
        });
    }

    fn stars(&mut self, count: u64) {
        for star in 1..=count {
            let place = mixed(star);
            let at = ((place % WIDTH as u64) as f32, (place / 997 % HEIGHT as u64) as f32);
            let radius = 0.4 + (place / 31 % 100) as f32 / 80.0;
            self.disc(at, radius, Colour::WHITE, 0.25 + (place / 7 % 60) as f32 / 100.0);
        }
    }

    /// The drawing as a file.
    fn png(&self) -> std::io::Result<Vec<u8>> {
        let mut rows = ZlibEncoder::new(Vec::new(), Compression::default());
        for row in self.0.chunks(WIDTH) {
            let mut line = vec![1]; // differences to the sample on the left
            let mut left = [0_u8; 3];
            for sample in row {
                let levels = sample.map(|it| it.round().clamp(0.0, 255.0) as u8);
                line.extend(std::array::from_fn::<u8, 3, _>(|it| levels[it].wrapping_sub(left[it])));
                left = levels;
            }
            rows.write_all(&line)?;
        }
        let mut head = Vec::new();
        for side in [WIDTH, HEIGHT] {
            head.extend((side as u32).to_be_bytes());
        }
        head.extend([8, 2, 0, 0, 0]); // depth, truecolour
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        for (kind, body) in [(b"IHDR", head), (b"IDAT", rows.finish()?), (b"IEND", Vec::new())] {
            file.extend((body.len() as u32).to_be_bytes());
            let mut sum = Crc::new();
            sum.update(kind);
            sum.update(&body);
            file.extend(kind);
            file.extend(body);
            file.extend(sum.sum().to_be_bytes());
        }
        Ok(file)
    }
}

fn levels(colour: Colour) -> [f32; 3] {
    [colour.0, colour.1, colour.2].map(f32::from)
}

/// The channel's banner: a dial at the right, where the page writes nothing over it.
pub(super) fn clock() -> std::io::Result<Vec<u8>> {
    let centre = (WIDTH as f32 * 0.72, HEIGHT as f32 * 0.5);
    let at = |turn: f32, radius: f32| {
        let (sine, cosine) = (turn * std::f32::consts::TAU).sin_cos();
        (centre.0 + sine * radius, centre.1 - cosine * radius)
    };
    let mut canvas = Canvas::sky(centre);
    canvas.glow(centre, 330.0, FAINT, 0.25);
    for tick in 0_u8..60 {
        let turn = f32::from(tick) / 60.0;
        match tick {
            tick if tick % 15 == 0 => canvas.line(at(turn, 196.0), at(turn, 218.0), 4.0, Colour::WHITE, 0.9),
            tick if tick % 5 == 0 => canvas.line(at(turn, 202.0), at(turn, 218.0), 2.5, FAINT, 0.9),
            _ => canvas.disc(at(turn, 215.0), 1.3, FAINT, 0.6),
        }
    }
    canvas.line(centre, at(10.15 / 12.0, 118.0), 7.0, Colour::WHITE, 1.0);
    canvas.line(centre, at(9.0 / 60.0, 178.0), 4.5, Colour::WHITE, 1.0);
    canvas.line(at(7.0 / 60.0, 36.0), at(37.0 / 60.0, 196.0), 2.0, Colour::AMBER, 1.0);
    canvas.disc(centre, 10.0, Colour::AMBER, 1.0);
    canvas.disc(centre, 4.0, BOTTOM, 1.0);
    canvas.png()
}

/// The poster of the film about a comet. Its head is in the middle, which is what a page shows of posters that it crops to 2:3.
pub(super) fn comet() -> std::io::Result<Vec<u8>> {
    const STEPS: u16 = 140;
    let head = (WIDTH as f32 * 0.56, HEIGHT as f32 * 0.34);
    let mut canvas = Canvas::sky(head);
    canvas.stars(220);
    canvas.glow(head, 300.0, Colour::AMBER, 0.35);
    for step in (0..STEPS).rev() {
        let part = f32::from(step) / f32::from(STEPS);
        let at = (head.0 - part * 330.0, head.1 + part * 250.0 + part * part * 40.0);
        canvas.disc(at, 26.0 * (1.0 - part).powf(0.8), Colour::AMBER, 0.05 + 0.25 * (1.0 - part).powi(2));
    }
    canvas.glow(head, 70.0, Colour(255, 236, 200), 0.9);
    canvas.disc(head, 25.0, Colour(255, 244, 224), 1.0);
    canvas.png()
}

/// The poster of the film of squares: those of `picture` that differ from its background, with round corners and a glow.
pub(super) fn squares(picture: &Picture) -> std::io::Result<Vec<u8>> {
    let mut canvas = Canvas::sky((WIDTH as f32 / 2.0, HEIGHT as f32 / 2.0));
    let painted = (0..COLUMNS * ROWS).map(|at| (at % COLUMNS, at / COLUMNS));
    let painted = painted.filter(|(column, row)| picture.at(*column, *row) != Colour::NIGHT);
    let painted: Vec<_> = painted.collect();
    let centre =
        |(column, row): (usize, usize)| ((column as f32 + 0.5) * SQUARE, (row as f32 + 0.5) * SQUARE);
    for square in &painted {
        canvas.glow(centre(*square), SQUARE * 3.0, picture.at(square.0, square.1), 0.12);
    }
    for square in &painted {
        let (x, y) = centre(*square);
        let (half, corner) = (SQUARE / 2.0 - 1.0, 3.0);
        canvas.paint((x - half, y - half), (x + half, y + half), picture.at(square.0, square.1), |at| {
            let beyond = |it: f32| (it.abs() - half + corner).max(0.0);
            corner + 0.5 - beyond(at.0 - x).hypot(beyond(at.1 - y))
        });
    }
    canvas.png()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posters_are_files_of_png_of_less_than_600_kb_with_pictures_that_differ() {
        let mut square = Picture::of(Colour::NIGHT);
        square.set(40, 20, Colour::WHITE);
        let posters =
            [clock(), comet(), squares(&Picture::of(Colour::NIGHT)), squares(&square)].map(Result::unwrap);
        for (number, poster) in posters.iter().enumerate() {
            assert!(poster.starts_with(b"\x89PNG\r\n\x1a\n"));
            assert!((1_000..600_000).contains(&poster.len()), "{}", poster.len());
            assert!(!posters[number + 1..].contains(poster));
        }
    }

    #[test]
    fn shapes_end_at_the_edges_of_the_drawing() {
        let mut canvas = Canvas::sky((0.0, 0.0));
        let corner = (WIDTH as f32, HEIGHT as f32);
        canvas.disc((-3.0, -3.0), 9.0, Colour::WHITE, 1.0);
        canvas.line(corner, (corner.0 + 500.0, corner.1), 2.0, Colour::WHITE, 1.0);
        assert_eq!(canvas.0.len(), WIDTH * HEIGHT);
        assert_eq!(canvas.0[0], levels(Colour::WHITE));
    }
}
