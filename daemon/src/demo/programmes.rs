//! Programmes of the demo: a channel with a clock, and two films.

use std::io;

use super::package::{PICTURES, RATE};
use super::picture::{COLUMNS, Colour, Picture, ROWS};
use super::{date, mixed, poster};

const DIM: Colour = Colour(45, 58, 92);
const GREEN: Colour = Colour(61, 214, 140);
const BLUE: Colour = Colour(92, 158, 255);

/// A film.
#[derive(Debug)]
pub(super) struct Film {
    /// Its folder, and its name in URLs.
    pub(super) name: &'static str,
    /// Titles, by language.
    pub(super) titles: [(&'static str, &'static str); 2],
    pub(super) description: &'static str,
    pub(super) seconds: u64,
    pub(super) pictures: Vec<Picture>,
    /// Its poster, as PNG.
    pub(super) poster: Vec<u8>,
}

/// The films.
pub(super) fn films() -> io::Result<[Film; 2]> {
    Ok([comet()?, life()?])
}

/// The channel's picture number `number` of the segment that begins at `begin_s` seconds of 1970: the time of day in UTC,
/// and the elapsed part of the minute.
pub(super) fn clock(begin_s: u64, number: u64) -> Picture {
    let second = begin_s + number / u64::from(RATE);
    let time = date(second);
    let mut picture = Picture::of(Colour::NIGHT);
    picture.write(6, "THE CLOCK", DIM);
    picture.write(19, time.get(11..19).unwrap_or_default(), Colour::WHITE);
    picture.write(31, "UTC", GREEN);
    // A square a second, and one that moves within the second.
    let passed = (second % 60) as usize;
    picture.fill((10, 41), (60, 2), DIM);
    picture.fill((10, 41), (passed, 2), GREEN);
    let within = number % u64::from(RATE);
    picture.set((within * COLUMNS as u64 / u64::from(RATE)) as usize, 44, Colour::AMBER);
    picture
}

/// Draws the elapsed part of a film as a line at the bottom.
fn progress(picture: &mut Picture, number: u64, count: u64) {
    picture.fill((0, ROWS - 1), (COLUMNS, 1), DIM);
    picture.fill((0, ROWS - 1), ((number * COLUMNS as u64 / count) as usize, 1), Colour::AMBER);
}

/// Back and forth between 0 and `most`.
const fn bounced(at: u64, most: u64) -> usize {
    let at = at % (2 * most);
    (if at > most { 2 * most - at } else { at }) as usize
}

/// A comet with a tail of its last places among stars that twinkle.
fn comet() -> io::Result<Film> {
    const SECONDS: u64 = 40;
    let count = SECONDS * u64::from(RATE);
    let place = |number: u64| (bounced(number, COLUMNS as u64 - 3), bounced(number * 2 / 3, ROWS as u64 - 4));
    let draw = |number: u64| {
        let mut picture = Picture::of(Colour::NIGHT);
        for star in 1..90 {
            let place = mixed(star);
            let is_bright = (number / 5 + star) % 23 < 2;
            let colour = if is_bright { Colour::WHITE } else { DIM };
            picture.set((place % COLUMNS as u64) as usize, (place / 997 % ROWS as u64) as usize, colour);
        }
        for age in (0..16).rev().filter(|age| *age <= number) {
            let (column, row) = place(number - age);
            let fade =
                |full: u8, floor: u8| (u64::from(full) * (16 - age) / 16 + u64::from(floor) * age / 16) as u8;
            let colour = Colour(fade(255, 11), fade(176, 16), fade(56, 32));
            picture.fill((column, row), if age == 0 { (3, 3) } else { (2, 2) }, colour);
        }
        picture
    };
    let pictures = (0..count)
        .map(|number| {
            let mut picture = draw(number);
            if number < 3 * u64::from(RATE) {
                picture.write(34, "THE COMET", Colour::WHITE);
            }
            progress(&mut picture, number, count);
            picture
        })
        .collect();
    Ok(Film {
        name: "comet",
        titles: [("en", "The Comet"), ("de", "Der Komet")],
        description: "A comet crosses the sky and finds its edges.",
        seconds: SECONDS,
        pictures,
        poster: poster::comet()?,
    })
}

/// Conway's Game of Life from an R-pentomino, on a torus.
fn life() -> io::Result<Film> {
    const SECONDS: u64 = 40;
    /// Pictures for which a generation is shown.
    const SHOWN: u64 = 4;
    let count = SECONDS * u64::from(RATE);
    let mut alive = vec![false; COLUMNS * ROWS];
    for (column, row) in [(41, 20), (42, 20), (40, 21), (41, 21), (41, 22)] {
        alive[row * COLUMNS + column] = true;
    }
    let mut ages = vec![0_u64; COLUMNS * ROWS];
    let (mut pictures, mut generation) = (Vec::new(), Picture::of(Colour::NIGHT));
    for number in 0..count {
        if number.is_multiple_of(SHOWN) && number > 0 {
            let before = alive.clone();
            for row in 0..ROWS {
                for column in 0..COLUMNS {
                    let around = (0..9).filter(|it| *it != 4).filter(|it| {
                        let (row, column) = (row + ROWS - 1 + it / 3, column + COLUMNS - 1 + it % 3);
                        before[row % ROWS * COLUMNS + column % COLUMNS]
                    });
                    let at = row * COLUMNS + column;
                    let neighbours = around.count();
                    alive[at] = neighbours == 3 || before[at] && neighbours == 2;
                    ages[at] = if alive[at] { ages[at] + 1 } else { 0 };
                }
            }
        }
        let mut picture = Picture::of(Colour::NIGHT);
        for at in (0..alive.len()).filter(|at| alive[*at]) {
            let colour = match ages[at] {
                0..=1 => Colour::WHITE,
                2..=5 => GREEN,
                _ => BLUE,
            };
            picture.set(at % COLUMNS, at / COLUMNS, colour);
        }
        if number == 9 * PICTURES {
            generation = picture.clone();
        }
        if number < 3 * u64::from(RATE) {
            picture.write(34, "LIFE", Colour::WHITE);
        }
        progress(&mut picture, number, count);
        pictures.push(picture);
    }
    Ok(Film {
        name: "life",
        titles: [("en", "Life"), ("de", "Leben")],
        description: "Five cells, three rules, and what comes of them: Conway's Game of Life.",
        seconds: SECONDS,
        pictures,
        poster: poster::squares(&generation)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn films_have_a_picture_for_each_25th_of_a_second() {
        for film in films().unwrap() {
            assert_eq!(film.pictures.len() as u64, film.seconds * u64::from(RATE), "{}", film.name);
        }
    }

    #[test]
    fn the_clock_shows_each_second() {
        let first = clock(1_800_000_000, 0);
        assert_ne!(first, clock(1_800_000_000, 1), "the second is seen to pass");
        let mut written = Picture::of(Colour::NIGHT);
        written.write(19, "08:00:00", Colour::WHITE); // of 2027-01-15
        for column in 0..COLUMNS {
            for row in 19..26 {
                assert_eq!(first.at(column, row), written.at(column, row));
            }
        }
    }
}
