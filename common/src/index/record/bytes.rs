//! The small parts a record is made of: numbers, times, stamps and texts.

use uuid::fmt::Hyphenated;
use uuid::{Uuid, Variant};

use super::RecordError;
use crate::index::Stamp;

const GUID: u64 = 0;
const TWO_GUIDS: u64 = 1;
const HMAC: u64 = 2;
const ABSENT: u64 = 3;
const IMPLIED: u64 = 4;
const HOSTS: u64 = 5;
const PLAIN: u64 = 16;

const HMAC_PREFIX: &str = "hmac-sha256:";
/// The hosts of the Microsoft clouds. New ones go to the end, up to 11 in all: the place is what is stored.
const WELL_KNOWN_HOSTS: [&str; 8] = [
    "login.microsoftonline.com",
    "login.windows.net",
    "login.microsoft.com",
    "sts.windows.net",
    "login.microsoftonline.us",
    "login.partner.microsoftonline.cn",
    "login.chinacloudapi.cn",
    "login.live.com",
];

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_MILLISECOND: i64 = 1_000;
/// Where the milliseconds of a UUIDv7 end and its version and random bits begin.
const V7_RANDOM_BITS: u32 = 80;

/// Whether the id a stamp was made of is a UUIDv7, whose first 48 bits repeat the time.
pub(super) fn is_v7(tie_breaker: u128) -> bool {
    let uuid = Uuid::from_u128(tie_breaker);
    uuid.get_version_num() == 7 && uuid.get_variant() == Variant::RFC4122
}

#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }

    /// Any two numbers: the distance wraps around and back.
    pub(super) fn distance(&mut self, to: i64, from: i64) {
        let distance = to.wrapping_sub(from);
        self.number(((distance << 1) ^ (distance >> 63)) as u64);
    }

    pub(super) fn seconds(&mut self, seconds: i64, base_micros: i64) {
        self.distance(seconds, base_micros.div_euclid(MICROS_PER_SECOND));
    }

    pub(super) fn stamp(&mut self, stamp: Stamp, base_micros: i64) {
        self.distance(stamp.micros, base_micros);
        let id = stamp.tie_breaker.to_be_bytes();
        if !is_v7(stamp.tie_breaker) {
            return self.bytes(&id);
        }
        let millis = (stamp.tie_breaker >> V7_RANDOM_BITS) as i64;
        self.distance(millis, stamp.micros.div_euclid(MICROS_PER_MILLISECOND));
        self.bytes(&id[6..]);
    }

    pub(super) fn text(&mut self, text: &str) {
        if let Some(guid) = guid(text) {
            self.number(GUID);
            self.bytes(&guid);
        } else if let Some((left, right)) = two_guids(text) {
            self.number(TWO_GUIDS);
            self.bytes(&left);
            self.bytes(&right);
        } else if let Some(hash) = text.strip_prefix(HMAC_PREFIX).and_then(from_hex) {
            self.number(HMAC);
            self.bytes(&hash);
        } else if let Some(place) = WELL_KNOWN_HOSTS.iter().position(|host| *host == text) {
            self.number(HOSTS + place as u64);
        } else {
            self.number(PLAIN + text.len() as u64);
            self.bytes(text.as_bytes());
        }
    }

    pub(super) fn optional(&mut self, text: Option<&str>, implied: Option<&str>) {
        match text {
            None => self.number(ABSENT),
            Some(_) if text == implied => self.number(IMPLIED),
            Some(text) => self.text(text),
        }
    }
}

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Result<u8, RecordError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(RecordError::Damaged)?;
        self.0 = rest;
        Ok(*array)
    }

    fn take(&mut self, bytes: u64) -> Result<&'a [u8], RecordError> {
        let bytes = usize::try_from(bytes).map_err(|_| RecordError::Damaged)?;
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(RecordError::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, RecordError> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(RecordError::Damaged)
    }

    pub(super) fn distance(&mut self, from: i64) -> Result<i64, RecordError> {
        let zigzag = self.number()?;
        let distance = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        Ok(from.wrapping_add(distance))
    }

    pub(super) fn seconds(&mut self, base_micros: i64) -> Result<i64, RecordError> {
        self.distance(base_micros.div_euclid(MICROS_PER_SECOND))
    }

    pub(super) fn stamp(&mut self, base_micros: i64, is_v7: bool) -> Result<Stamp, RecordError> {
        let micros = self.distance(base_micros)?;
        if !is_v7 {
            return Ok(Stamp { micros, tie_breaker: u128::from_be_bytes(self.array()?) });
        }
        let millis = self.distance(micros.div_euclid(MICROS_PER_MILLISECOND))?;
        let random = self.array::<10>()?.iter().fold(0, |number, byte| number << 8 | u128::from(*byte));
        Ok(Stamp { micros, tie_breaker: (millis as u128) << V7_RANDOM_BITS | random })
    }

    pub(super) fn text(&mut self) -> Result<String, RecordError> {
        self.optional(None)?.ok_or(RecordError::Damaged)
    }

    pub(super) fn optional(&mut self, implied: Option<&str>) -> Result<Option<String>, RecordError> {
        Ok(Some(match self.number()? {
            GUID => hyphenated(self.array()?),
            TWO_GUIDS => two_hyphenated(self.array()?, self.array()?),
            HMAC => format!("{HMAC_PREFIX}{}", to_hex(&self.array::<32>()?)),
            ABSENT => return Ok(None),
            IMPLIED => implied.ok_or(RecordError::Damaged)?.to_owned(),
            length if length >= PLAIN => self.plain(length - PLAIN)?,
            host => well_known_host(host - HOSTS)?.to_owned(),
        }))
    }

    fn plain(&mut self, bytes: u64) -> Result<String, RecordError> {
        let text = std::str::from_utf8(self.take(bytes)?).map_err(|_| RecordError::Damaged)?;
        Ok(text.to_owned())
    }

    pub(super) fn end(&self) -> Result<(), RecordError> {
        if self.0.is_empty() { Ok(()) } else { Err(RecordError::Damaged) }
    }
}

fn well_known_host(place: u64) -> Result<&'static str, RecordError> {
    let place = usize::try_from(place).map_err(|_| RecordError::Damaged)?;
    WELL_KNOWN_HOSTS.get(place).copied().ok_or(RecordError::Damaged)
}

/// The bytes of a GUID in its usual writing, and of no other writing, so that it is read back as it was.
fn guid(text: &str) -> Option<[u8; 16]> {
    let bytes = Uuid::try_parse(text).ok()?.into_bytes();
    (hyphenated(bytes) == text).then_some(bytes)
}

fn two_guids(text: &str) -> Option<([u8; 16], [u8; 16])> {
    let (left, right) = text.split_once('.')?;
    Some((guid(left)?, guid(right)?))
}

fn hyphenated(bytes: [u8; 16]) -> String {
    let mut text = [0; Hyphenated::LENGTH];
    Uuid::from_bytes(bytes).hyphenated().encode_lower(&mut text).to_owned()
}

fn two_hyphenated(left: [u8; 16], right: [u8; 16]) -> String {
    let mut buffer = [0; Hyphenated::LENGTH];
    let mut text = String::with_capacity(2 * Hyphenated::LENGTH + 1);
    text.push_str(Uuid::from_bytes(left).hyphenated().encode_lower(&mut buffer));
    text.push('.');
    text.push_str(Uuid::from_bytes(right).hyphenated().encode_lower(&mut buffer));
    text
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(bytes)
}
