//! A small reader of protocol buffers: what a pprof is read back with. The fuzzers include this file, too.

/// A field of a message, with its number.
#[derive(Debug)]
pub enum Field<'a> {
    /// What it holds is a number.
    Number(u64, u64),
    /// A text, a message, or packed numbers.
    Bytes(u64, &'a [u8]),
}

/// A number, which is taken off the front.
pub fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().expect("a varint has an end");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a varint has ten bytes at the most");
}

/// All fields of a message, to its end.
pub fn fields(mut bytes: &[u8]) -> Vec<Field<'_>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        match key & 7 {
            0 => found.push(Field::Number(key >> 3, varint(&mut bytes))),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (inner, rest) = bytes.split_at(length);
                bytes = rest;
                found.push(Field::Bytes(key >> 3, inner));
            }
            kind => panic!("no field of ours has wire type {kind}"),
        }
    }
    found
}
