//! Frames made by hand.

/// A frame with any kind, any number of descriptors, and any body.
pub(crate) fn frame(kind: u8, descriptors: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = b"WSTP".to_vec();
    bytes.extend([kind, descriptors, 0, 0]);
    bytes.extend(u32::try_from(body.len()).expect("a length").to_le_bytes());
    bytes.extend(body);
    bytes
}
