//! What a rewrite makes of a path. Gateway API, HTTPPathModifier.

use model::edge::PathRewrite;

/// Appends the new path and the unchanged query to `out`. `matched_prefix_len` is that of [`crate::Taken`]. The
/// result begins with a slash, and the seam between replacement and rest has one slash.
pub fn rewrite_path(
    rewrite: &PathRewrite,
    path: &[u8],
    matched_prefix_len: usize,
    query: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    match rewrite {
        PathRewrite::ReplaceFull(full) => push_path(full, b"", out),
        PathRewrite::ReplacePrefix(replacement) => {
            let rest = path.get(matched_prefix_len..).unwrap_or_default();
            push_path(replacement, rest, out);
        }
    }
    push_query(query, out);
}

pub(crate) fn push_query(query: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
}

fn push_path(replacement: &str, rest: &[u8], out: &mut Vec<u8>) {
    let head = if rest.starts_with(b"/") { replacement.trim_end_matches('/') } else { replacement };
    let begins_with_slash = head.as_bytes().first().or(rest.first()) == Some(&b'/');
    if !begins_with_slash {
        out.push(b'/');
    }
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(rest);
}
