//! The XML reader: what it accepts, what it refuses and where, its limits, and its canonical form.

use stopgap::xml::{Document, Element, Limits, canonicalize};

fn parse(text: &str) -> Document<'_> {
    match Document::parse(text.as_bytes(), &Limits::default()) {
        Ok(document) => document,
        Err(error) => panic!("{text:?}: {error}"),
    }
}

fn refusal(text: &[u8], limits: &Limits) -> String {
    match Document::parse(text, limits) {
        Ok(_) => panic!("accepted: {:?}", String::from_utf8_lossy(text)),
        Err(error) => error.to_string(),
    }
}

/// A shape to compare: name, namespace in braces, attributes, own text, children.
fn shape(element: Element<'_>) -> String {
    let mut out = format!("{{{}}}{}", element.namespace(), element.name());
    for attribute in element.attributes() {
        out += &format!(
            " {{{}}}{}={:?}",
            attribute.namespace(),
            attribute.name(),
            attribute.value()
        );
    }
    if !element.text().is_empty() {
        out += &format!(" {:?}", element.text());
    }
    for child in element.children() {
        out += &format!(" ({})", shape(child));
    }
    out
}

#[test]
fn accepted_documents() {
    for (text, expected) in [
        ("<a/>", "{}a"),
        ("\u{feff}<a></a >", "{}a"),
        ("<?xml version='1.0'?>\r\n<a/>\n", "{}a"),
        (
            "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\" ?><a/>",
            "{}a",
        ),
        (
            "<!-- x --><a><!-- y - z -->b<!----></a><!-- -->",
            "{}a \"b\"",
        ),
        ("<a b='1' c=\"2\"/>", "{}a {}b=\"1\" {}c=\"2\""),
        ("<a b = '\"&lt;&#x41;\r\n\t'/>", "{}a {}b=\"\\\"<A  \""),
        ("<a>1<b/>2<c>x</c>3</a>", "{}a \"123\" ({}b) ({}c \"x\")"),
        (
            "<a><![CDATA[<b>&amp;]]]]><![CDATA[>]]></a>",
            "{}a \"<b>&amp;]]>\"",
        ),
        ("<a>x\r\ny\rz&#13;</a>", "{}a \"x\\ny\\nz\\r\""),
        ("<a xmlns='u'><b xmlns=''/><c/></a>", "{u}a ({}b) ({u}c)"),
        (
            "<p:a xmlns:p='u' p:b='1' b='2'/>",
            "{u}a {u}b=\"1\" {}b=\"2\"",
        ),
        (
            "<a xml:lang='en'/>",
            "{}a {http://www.w3.org/XML/1998/namespace}lang=\"en\"",
        ),
        (
            "<a xmlns:xml='http://www.w3.org/XML/1998/namespace'/>",
            "{}a",
        ),
        ("<é ü='ß'>日本</é>", "{}é {}ü=\"ß\" \"日本\""),
    ] {
        assert_eq!(shape(parse(text).root()), expected, "{text:?}");
    }
}

#[test]
fn refused_documents_say_where_and_why() {
    for (text, expected) in [
        ("", "line 1, column 1: the document has no element"),
        ("<!-- -->", "line 1, column 9: the document has no element"),
        (
            "<a url='1'\n  url='2'/>",
            "line 2, column 3: the attribute 'url' is there twice",
        ),
        (
            "<a xmlns:p='u' xmlns:q='u' p:x='' q:x=''/>",
            "line 1, column 35: the attribute 'q:x' is there twice",
        ),
        (
            "<a xmlns='u' xmlns='u'/>",
            "line 1, column 14: the attribute 'xmlns' is there twice",
        ),
        (
            "<a>\n</b>",
            "line 2, column 1: </b> stands where </a> is expected",
        ),
        ("<a/></a>", "line 1, column 5: </a> closes nothing"),
        (
            "\n<a>\n <b>",
            "line 3, column 5: the document ends before </b>, opened at line 3, column 2",
        ),
        (
            "<a></a b=''>",
            "line 1, column 4: an end tag holds nothing but its name",
        ),
        (
            "<a",
            "line 1, column 1: the document ends inside this tag: a '>' or a quote is missing",
        ),
        (
            "<a b='>",
            "line 1, column 1: the document ends inside this tag: a '>' or a quote is missing",
        ),
        (
            "<a b/>",
            "line 1, column 4: the attribute 'b' has no value: write b=\"...\"",
        ),
        (
            "<a b=c/>",
            "line 1, column 4: the value of 'b' must be in quotes",
        ),
        (
            "<a b='1'c='2'/>",
            "line 1, column 9: a space is missing before this attribute",
        ),
        (
            "<a b='<'/>",
            "line 1, column 4: the value of 'b' contains '<': write '&lt;'",
        ),
        ("<1/>", "line 1, column 2: '1' is no XML name"),
        ("< a/>", "line 1, column 2: '' is no XML name"),
        (
            "<a:b:c xmlns:a='u'/>",
            "line 1, column 2: 'a:b:c' is no XML name",
        ),
        (
            "<a/ >",
            "line 1, column 3: a space is missing before this attribute",
        ),
        (
            "<a>&nbsp;</a>",
            "line 1, column 4: '&nbsp;' is not allowed: only &amp; &lt; &gt; &quot; &apos; and character references are",
        ),
        (
            "<a b='x&y;'/>",
            "line 1, column 8: '&y;' is not allowed: only &amp; &lt; &gt; &quot; &apos; and character references are",
        ),
        (
            "<a>&#0;</a>",
            "line 1, column 4: '&#0;' is not allowed: only &amp; &lt; &gt; &quot; &apos; and character references are",
        ),
        (
            "<a>a & b</a>",
            "line 1, column 6: '&' begins a reference without ';': write '&amp;' for the character itself",
        ),
        (
            "<a b='a & b'/>",
            "line 1, column 9: '&' begins a reference without ';': write '&amp;' for the character itself",
        ),
        (
            "<a>x]]>y</a>",
            "line 1, column 5: ']]>' may not stand in text: write ']]&gt;'",
        ),
        (
            "<a>\u{1}</a>",
            "line 1, column 4: the character U+0001 is not allowed in XML",
        ),
        (
            "<a>\u{fffe}</a>",
            "line 1, column 4: the character U+FFFE is not allowed in XML",
        ),
        (
            "<a><!-- x -- y --></a>",
            "line 1, column 11: a comment may not contain '--'",
        ),
        (
            "<a><!-- x ---></a>",
            "line 1, column 11: a comment may not contain '--'",
        ),
        (
            "<a><!-- x</a>",
            "line 1, column 4: this comment does not end: '-->' is missing",
        ),
        (
            "<a><![CDATA[x</a>",
            "line 1, column 4: this CDATA section does not end: ']]>' is missing",
        ),
        (
            "<a><!x></a>",
            "line 1, column 4: '<!' begins neither a comment nor a CDATA section",
        ),
        (
            "<?php x?><a/>",
            "line 1, column 1: processing instructions (<?...?>) are not allowed here: remove it",
        ),
        (
            "<a><?x?></a>",
            "line 1, column 4: processing instructions (<?...?>) are not allowed here: remove it",
        ),
        (
            "<!DOCTYPE a><a/>",
            "line 1, column 1: a document type (<!DOCTYPE ...>) is not allowed here: remove it",
        ),
        (
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
            "line 1, column 1: a document type (<!DOCTYPE ...>) is not allowed here: remove it",
        ),
        (
            " <?xml version='1.0'?><a/>",
            "line 1, column 2: the XML declaration may only stand at the very start",
        ),
        (
            "<?xml version='1.1'?><a/>",
            "line 1, column 1: XML version '1.1' is not supported: only 1.0 is",
        ),
        (
            "<?xml version='1.0' encoding='utf-7'?><a/>",
            "line 1, column 1: the encoding 'utf-7' is not supported: save the document as UTF-8",
        ),
        (
            "<?xml encoding='utf-8' version='1.0'?><a/>",
            "line 1, column 1: the XML declaration must read <?xml version=\"1.0\" encoding=\"utf-8\"?>",
        ),
        (
            "<?xml version='1.0' emcoding='utf-8'?><a/>",
            "line 1, column 1: the XML declaration must read <?xml version=\"1.0\" encoding=\"utf-8\"?>",
        ),
        (
            "<a/>\n x",
            "line 2, column 2: text outside the root element",
        ),
        (
            "\u{feff}\u{feff}<a/>",
            "line 1, column 1: text outside the root element",
        ),
        (
            "<a/>&#32;",
            "line 1, column 5: text outside the root element",
        ),
        (
            "<![CDATA[]]><a/>",
            "line 1, column 1: text outside the root element",
        ),
        (
            "<a/><b/>",
            "line 1, column 5: the document has a second root element",
        ),
        (
            "<p:a/>",
            "line 1, column 2: the prefix 'p' is not declared: add xmlns:p=\"...\"",
        ),
        (
            "<a p:b=''/>",
            "line 1, column 4: the prefix 'p' is not declared: add xmlns:p=\"...\"",
        ),
        (
            "<a><b xmlns:p='u'/><p:c/></a>",
            "line 1, column 21: the prefix 'p' is not declared: add xmlns:p=\"...\"",
        ),
        (
            "<xmlns:a/>",
            "line 1, column 2: the prefix 'xmlns' is not declared: add xmlns:xmlns=\"...\"",
        ),
        (
            "<a xmlns:p=''/>",
            "line 1, column 4: this namespace declaration is not allowed by Namespaces in XML",
        ),
        (
            "<a xmlns:xml='u'/>",
            "line 1, column 4: this namespace declaration is not allowed by Namespaces in XML",
        ),
        (
            "<a xmlns:xmlns='u'/>",
            "line 1, column 4: this namespace declaration is not allowed by Namespaces in XML",
        ),
        (
            "<a xmlns='http://www.w3.org/2000/xmlns/'/>",
            "line 1, column 4: this namespace declaration is not allowed by Namespaces in XML",
        ),
    ] {
        assert_eq!(
            refusal(text.as_bytes(), &Limits::default()),
            expected,
            "{text:?}"
        );
    }
    assert_eq!(
        refusal(b"<a>\n\xff</a>", &Limits::default()),
        "line 2, column 1: the document is not UTF-8: save it as UTF-8"
    );
}

#[test]
fn canonical_form() {
    for (text, expected) in [
        ("<a/>", "<a></a>"),
        ("<a   b = '1'\n/>", "<a b=\"1\"></a>"),
        (
            "<?xml version='1.0'?><!-- x --><a><!-- y --></a>",
            "<a></a>",
        ),
        ("<a><b><c/></b></a>", "<a><b><c></c></b></a>"),
        (
            "<a z='' b='' B='' é=''/>",
            "<a B=\"\" b=\"\" z=\"\" é=\"\"></a>",
        ),
        (
            "<a>&lt;&gt;&amp;&quot;&apos;\"'&#13;&#9;&#10;</a>",
            "<a>&lt;&gt;&amp;\"'\"'&#xD;\t\n</a>",
        ),
        (
            "<a b='&lt;>&amp;&quot;&apos;&#13;&#9;&#10; \t'/>",
            "<a b=\"&lt;>&amp;&quot;'&#xD;&#x9;&#xA;  \"></a>",
        ),
        ("<a><![CDATA[<&>\r\n]]>x</a>", "<a>&lt;&amp;&gt;\nx</a>"),
        ("<a>\r\n\r</a>", "<a>\n\n</a>"),
        (
            "<a xmlns:q='2' xmlns='0' xmlns:p='1'/>",
            "<a xmlns=\"0\" xmlns:p=\"1\" xmlns:q=\"2\"></a>",
        ),
        (
            "<a xmlns='u'><b xmlns='u'/></a>",
            "<a xmlns=\"u\"><b></b></a>",
        ),
        (
            "<a xmlns='u'><b xmlns=''><c xmlns=''/></b></a>",
            "<a xmlns=\"u\"><b xmlns=\"\"><c></c></b></a>",
        ),
        ("<a xmlns=''/>", "<a></a>"),
        (
            "<a xmlns:p='1'><b xmlns:p='2'><c xmlns:p='1'/></b></a>",
            "<a xmlns:p=\"1\"><b xmlns:p=\"2\"><c xmlns:p=\"1\"></c></b></a>",
        ),
        // Attributes sort by namespace URI, not by prefix, and those in no namespace come first.
        (
            "<a xmlns:p='2' xmlns:q='1' p:a='' q:b='' z=''/>",
            "<a xmlns:p=\"2\" xmlns:q=\"1\" z=\"\" q:b=\"\" p:a=\"\"></a>",
        ),
        (
            "<a xmlns:xml='http://www.w3.org/XML/1998/namespace' xml:lang='en'/>",
            "<a xml:lang=\"en\"></a>",
        ),
    ] {
        let octets = canonicalize(&parse(text));
        assert_eq!(String::from_utf8_lossy(&octets), expected, "{text:?}");
        // The canonical form of a canonical form is itself.
        assert_eq!(canonicalize(&parse(expected)), octets, "{text:?}");
    }
}

#[test]
fn canonical_form_of_a_part() {
    let document = parse(
        "<a xmlns='u' xmlns:p='v' xml:lang='en' xml:space='preserve' z='1'><b xmlns:q='w' xml:lang='de'>x<c p:k=''/>y</b>t</a>",
    );
    let canonical =
        |element: Element<'_>| String::from_utf8_lossy(&element.canonical().to_vec()).into_owned();
    let b = document.root().children().next().expect("it has a child");
    let c = b.children().next().expect("it has a child");
    assert_eq!(
        canonical(b),
        "<b xmlns=\"u\" xmlns:p=\"v\" xmlns:q=\"w\" xml:lang=\"de\" xml:space=\"preserve\">x<c p:k=\"\"></c>y</b>"
    );
    assert_eq!(
        canonical(c),
        "<c xmlns=\"u\" xmlns:p=\"v\" xmlns:q=\"w\" xml:lang=\"de\" xml:space=\"preserve\" p:k=\"\"></c>"
    );
    let without = document.canonical().without(b).to_vec();
    assert_eq!(
        String::from_utf8_lossy(&without),
        "<a xmlns=\"u\" xmlns:p=\"v\" z=\"1\" xml:lang=\"en\" xml:space=\"preserve\">t</a>"
    );
}

#[test]
fn every_limit_has_two_sides() {
    let limits = Limits {
        bytes: 100,
        depth: 3,
        nodes: 8,
        attributes: 2,
    };
    let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    let with_attributes = |count: usize| {
        let attributes: String = (0..count).map(|n| format!(" a{n}=''")).collect();
        format!("<a{attributes}/>")
    };
    let of_bytes = |count: usize| format!("<a>{}</a>", "x".repeat(count - 7));
    let of_nodes = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count - 1));
    let all_attributes = |count: usize| format!("<a>{}</a>", "<b c=''/>".repeat(count));
    let roomy = Limits {
        nodes: 9,
        ..limits.clone()
    };
    for (limits, inside, outside, expected) in [
        (
            &limits,
            of_bytes(100),
            of_bytes(101),
            "the document is longer than 100 bytes",
        ),
        (
            &limits,
            nested(3),
            nested(4),
            "line 1, column 10: elements may be at most 3 levels deep",
        ),
        (
            &limits,
            of_nodes(8),
            of_nodes(9),
            "line 1, column 32: the document may have at most 8 elements and runs of text",
        ),
        (
            &limits,
            with_attributes(2),
            with_attributes(3),
            "line 1, column 16: an element may have at most 2 attributes",
        ),
        (
            &roomy,
            all_attributes(8),
            "<a z='' y=''>".to_owned() + &"<b c='' d=''/>".repeat(4) + "</a>",
            "line 1, column 64: the document may have at most 9 attributes",
        ),
    ] {
        assert!(
            Document::parse(inside.as_bytes(), limits).is_ok(),
            "{inside}"
        );
        let error = Document::parse(outside.as_bytes(), limits).expect_err("it exceeds the limit");
        assert_eq!(error.to_string(), expected);
        assert!(error.is_limit());
    }
}

#[test]
fn fixed_limits_have_two_sides() {
    let named = |length: usize| format!("<{}/>", "a".repeat(length));
    parse(&named(1024));
    let error = refusal(named(1025).as_bytes(), &Limits::default());
    assert_eq!(
        error,
        "line 1, column 2: a name may be at most 1024 bytes long"
    );

    let declaring = |count: usize| {
        let declare = |from: usize, to: usize| -> String {
            (from..to).map(|n| format!(" xmlns:p{n}='u'")).collect()
        };
        format!(
            "<a{}><b{}><c{}/></b></a>",
            declare(0, 64),
            declare(64, 128),
            declare(128, count)
        )
    };
    parse(&declaring(128));
    let error = refusal(declaring(129).as_bytes(), &Limits::default());
    assert!(
        error.ends_with("at most 128 namespace declarations may be in scope"),
        "{error}"
    );
}

#[test]
fn deep_documents_are_refused_or_walked_without_recursion() {
    let depth = 100_000;
    let text = format!("{}x{}", "<a>".repeat(depth), "</a>".repeat(depth));
    let error = refusal(text.as_bytes(), &Limits::default());
    assert_eq!(
        error,
        "line 1, column 97: elements may be at most 32 levels deep"
    );
    let generous = Limits {
        depth: usize::MAX,
        nodes: usize::MAX,
        ..Limits::default()
    };
    let document = Document::parse(text.as_bytes(), &generous).expect("no limit is met");
    assert_eq!(canonicalize(&document), text.as_bytes());
}

#[test]
fn source_text_and_places() {
    let text = "<web>\r\n  <!-- a\r\n comment -->\r\n  <rule name=\"é\"\r\n        enabled='true' >\r\n    <![CDATA[x\r\ny]]>\r\n  </rule>\r\n</web>";
    let document = parse(text);
    let root = document.root();
    assert_eq!(root.source(), text);
    assert_eq!(root.position().to_string(), "line 1, column 1");
    assert!(!root.has_text());
    let rule = root.children().next().expect("the rule");
    assert_eq!(rule.parent(), Some(root));
    assert_eq!(rule.position().to_string(), "line 4, column 3");
    assert!(rule.source().starts_with("<rule name") && rule.source().ends_with("</rule>"));
    let enabled = rule.attribute("enabled").expect("it is there");
    assert_eq!(enabled.position().to_string(), "line 5, column 9");
    assert!(rule.attribute("Enabled").is_none());
    assert!(rule.has_text());
    let content = rule.text();
    assert_eq!(content, "\n    x\ny\n  ");
    assert_eq!(rule.text_position().to_string(), "line 5, column 25");
    let at = |what: &str| {
        rule.text_position_at(content.find(what).expect("it is there"))
            .to_string()
    };
    assert_eq!(at("x"), "line 6, column 14");
    assert_eq!(at("y"), "line 7, column 1");
    assert_eq!(
        rule.text_position_at(usize::MAX).to_string(),
        "line 8, column 2"
    );
}

#[test]
fn places_in_text_skip_children_and_references() {
    let document = parse("<a>é&amp;x<b>no</b>€</a>");
    let root = document.root();
    assert_eq!(root.text(), "é&x€");
    for (offset, column) in [
        (0, 4),
        (1, 4),
        (2, 5),
        (3, 10),
        (4, 20),
        (5, 20),
        (6, 20),
        (7, 20),
    ] {
        assert_eq!(root.text_position_at(offset).column, column, "{offset}");
    }
    let empty = parse("<a> <b/></a>");
    let child = empty.root().children().next().expect("it has a child");
    assert_eq!(child.text_position(), child.position());
}

#[test]
fn mutated_documents_never_panic() {
    let text = "<?xml version='1.0'?><a xmlns='u' p:k='&#x41;' xmlns:p='v'>t&amp;<!-- c --><p:b><![CDATA[é\r\n]]></p:b></a>";
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let mut accepted = 0;
    for _ in 0..30_000 {
        let mut octets = text.as_bytes().to_vec();
        for _ in 0..=next(3) {
            let at = next(octets.len());
            match next(3) {
                0 => octets[at] = b"<>&;/!?='\" -[]\r\nax:#"[next(20)],
                1 => octets[at] = next(256) as u8,
                _ => octets
                    .drain(at..octets.len().min(at + next(8)))
                    .for_each(drop),
            }
        }
        if let Ok(document) = Document::parse(&octets, &Limits::default()) {
            accepted += 1;
            let canonical = canonicalize(&document);
            let again =
                Document::parse(&canonical, &Limits::default()).expect("canonical octets parse");
            assert_eq!(
                canonicalize(&again),
                canonical,
                "{:?}",
                String::from_utf8_lossy(&octets)
            );
            for element in document.root().descendants() {
                for offset in 0..=element.text().len() {
                    element.text_position_at(offset);
                }
            }
        }
    }
    assert!(
        accepted > 100,
        "the mutations never leave a document whole: {accepted}"
    );
}
