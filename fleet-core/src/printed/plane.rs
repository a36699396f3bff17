//! The characters that stand for values.

/// The characters of one private-use plane: U+F0000 to U+FFFFD, or U+100000 to U+10FFFD. YAML takes them anywhere, no
/// filter changes them, and a single character cannot be cut in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plane {
    first: u32,
    lead: u8,
}

impl Plane {
    /// How many characters there are.
    pub(crate) const SIZE: usize = 0xFFFE;
    const A: Self = Self { first: 0xF_0000, lead: 0xF3 };
    const B: Self = Self { first: 0x10_0000, lead: 0xF4 };

    pub(super) fn char(self, index: usize) -> Option<char> {
        if index >= Self::SIZE {
            return None;
        }
        char::from_u32(self.first.checked_add(u32::try_from(index).ok()?)?)
    }

    /// Which character of the plane it is.
    pub(super) fn index(self, char: char) -> Option<usize> {
        let index = usize::try_from(u32::from(char).checked_sub(self.first)?).ok()?;
        (index < Self::SIZE).then_some(index)
    }

    /// How many of its characters a text has.
    pub(crate) fn count(self, text: &str) -> usize {
        if !text.as_bytes().contains(&self.lead) {
            return 0;
        }
        text.chars().filter(|char| self.index(*char).is_some()).count()
    }
}

/// Which planes occur in what a rendering starts from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planes {
    a: bool,
    b: bool,
}

impl Planes {
    pub(crate) fn see(&mut self, text: &str) {
        self.a = self.a || Plane::A.count(text) > 0;
        self.b = self.b || Plane::B.count(text) > 0;
    }

    /// A plane that does not occur.
    pub(crate) fn unused(self) -> Option<Plane> {
        match self {
            Self { a: false, .. } => Some(Plane::A),
            Self { b: false, .. } => Some(Plane::B),
            _ => None,
        }
    }
}
