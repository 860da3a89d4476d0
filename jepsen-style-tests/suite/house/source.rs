//! A Rust source as the rules read it: comments and literals blanked, test code set apart.
//! Lines keep their numbers.

/// `text` with comments, string and character literals replaced by spaces. Newlines stay.
pub fn blank_prose(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = prose_end(&chars, i).unwrap_or(i);
        if end == i {
            out.push(chars[i]);
            i += 1;
            continue;
        }
        out.extend(chars[i..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        i = end;
    }
    out
}

/// Where the comment or literal that begins at `i` ends, if one begins there.
fn prose_end(chars: &[char], i: usize) -> Option<usize> {
    let at = |n: usize| chars.get(i + n).copied();
    match (chars[i], at(1)) {
        ('/', Some('/')) => Some(find(chars, i, |c| c == '\n')),
        ('/', Some('*')) => Some(block_comment_end(chars, i)),
        ('"', _) => Some(string_end(chars, i + 1)),
        ('r', Some('"' | '#')) if i == 0 || !is_word(chars[i - 1]) || chars[i - 1] == 'b' => raw_string_end(chars, i),
        // A character, not a lifetime: it closes after one character or an escape.
        ('\'', Some('\\')) => Some(find(chars, i + 3, |c| c == '\'') + 1),
        ('\'', Some(_)) if at(2) == Some('\'') => Some(i + 3),
        _ => None,
    }
}

fn find(chars: &[char], from: usize, wanted: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|&i| wanted(chars[i])).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut i = from;
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                i += 1;
                continue;
            }
        }
        i += 2;
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], from: usize) -> usize {
    let mut i = from;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

fn raw_string_end(chars: &[char], from: usize) -> Option<usize> {
    let hashes = find(chars, from + 1, |c| c != '#') - from - 1;
    if chars.get(from + 1 + hashes) != Some(&'"') {
        return None; // A raw identifier.
    }
    let closes = |i: usize| chars[i] == '"' && (1..=hashes).all(|n| chars.get(i + n) == Some(&'#'));
    let end = (from + 2 + hashes..chars.len()).find(|&i| closes(i));
    Some(end.map_or(chars.len(), |i| i + 1 + hashes))
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Blanked code in two parts of the same shape: what ships, and what only tests compile.
pub fn split_tests(path: &str, code: &str) -> (String, String) {
    if is_test_file(path) {
        return (blank(code), code.to_string());
    }
    let (mut ships, mut tests) = (String::new(), String::new());
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(test)]") {
        let end = start + item_end(&rest[start..]);
        ships.push_str(&rest[..start]);
        ships.push_str(&blank(&rest[start..end]));
        tests.push_str(&blank(&rest[..start]));
        tests.push_str(&rest[start..end]);
        rest = &rest[end..];
    }
    ships.push_str(rest);
    tests.push_str(&blank(rest));
    (ships, tests)
}

/// Outside `src/` there are only tests.
pub fn is_test_file(path: &str) -> bool {
    let is_tests = |name: &str| name == "tests" || name == "fuzz" || name.ends_with("_tests");
    path.trim_end_matches(".rs").split('/').any(is_tests) || !path.starts_with("src/")
}

/// Where the item that begins `code` ends: at its matching brace, or at a semicolon before any.
fn item_end(code: &str) -> usize {
    let mut depth = 0;
    for (i, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return i + 1,
            _ => continue,
        }
        if depth == 0 {
            return i + 1;
        }
    }
    code.len()
}

fn blank(code: &str) -> String {
    code.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

/// The paths that code names, each `use` tree spelled out: `use a::{b, c::d}` gives `a::b` and
/// `a::c::d`. With the line each begins on. Single words are no paths.
pub fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = vec![];
    for (index, line) in statements(code) {
        let compact: String = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let tree = use_tree(&compact);
        match tree {
            Some(tree) => expand("", tree, &mut |path| found.push((index, path))),
            None => scan_paths(&line, index, &mut found),
        }
    }
    found
}

/// The paths that code hands on: those of its `pub use` statements, of whatever reach. A name that is given
/// another name on the way is left out.
pub fn exports(code: &str) -> Vec<String> {
    let mut found = vec![];
    for (_, statement) in statements(code) {
        let compact: String = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        if compact.starts_with("pub")
            && let Some(tree) = use_tree(&compact)
        {
            expand("", tree, &mut |path| found.push(path));
        }
    }
    found
}

/// The tree of a `use` statement, whatever its visibility.
fn use_tree(statement: &str) -> Option<&str> {
    let statement = statement.trim();
    let statement = statement.strip_prefix("pub").map_or(statement, |rest| {
        let rest = rest.trim_start();
        if rest.starts_with('(') { rest.split_once(')').map_or(rest, |(_, rest)| rest.trim_start()) } else { rest }
    });
    statement.strip_prefix("use ").map(|tree| tree.trim_end_matches(';').trim())
}

/// Lines, except that a `use` that runs over several is one, at its first line's number.
fn statements(code: &str) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = vec![];
    let mut open = false;
    for (index, line) in code.lines().enumerate() {
        if open {
            let last = out.last_mut().expect("a statement is open");
            last.1.push(' ');
            last.1.push_str(line);
        } else {
            out.push((index + 1, line.to_string()));
        }
        let (_, statement) = out.last().expect("just pushed");
        open = use_tree(statement).is_some() && !line.contains(';');
    }
    out
}

fn expand(prefix: &str, tree: &str, emit: &mut impl FnMut(String)) {
    let tree = tree.trim();
    let Some(brace) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree).trim();
        if !path.is_empty() {
            emit(format!("{prefix}{path}"));
        }
        return;
    };
    let prefix = format!("{prefix}{}", &tree[..brace]);
    let inner = &tree[brace + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut start) = (0, 0);
    for (i, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &inner[start..i], emit);
                start = i + 1;
            }
            _ => {}
        }
    }
    expand(&prefix, &inner[start..], emit);
}

fn scan_paths(line: &str, index: usize, found: &mut Vec<(usize, String)>) {
    for path in line.split(|c: char| !is_word(c) && c != ':') {
        if path.contains("::") {
            found.push((index, path.to_string()));
        }
    }
}

#[test]
fn prose_is_blanked_and_code_is_not() {
    let text = "let a = \"x::y\"; // c::d\nlet b = 'q'; f::<'a>(r#\"z::\"w\"#); /* e /* f */ g */ h::i";
    let code = blank_prose(text);
    assert_eq!(code.lines().count(), 2);
    let paths: Vec<String> = paths(&code).into_iter().map(|(_, path)| path).collect();
    assert_eq!(paths, ["f::", "h::i"]);
}

#[test]
fn use_trees_are_spelled_out() {
    let code = "pub(crate) use a::{\n    b,\n    c::{d, e as f},\n};\nuse g;\nx::y();";
    let found = paths(code);
    let found: Vec<(usize, &str)> = found.iter().map(|(line, path)| (*line, path.as_str())).collect();
    assert_eq!(found, [(1, "a::b"), (1, "a::c::d"), (1, "a::c::e"), (5, "g"), (6, "x::y")]);
}
