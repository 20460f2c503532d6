import java.io.ByteArrayInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.List;
import java.util.function.Consumer;
import javax.xml.crypto.dom.DOMStructure;
import javax.xml.crypto.dsig.CanonicalizationMethod;
import javax.xml.crypto.dsig.DigestMethod;
import javax.xml.crypto.dsig.Reference;
import javax.xml.crypto.dsig.SignedInfo;
import javax.xml.crypto.dsig.Transform;
import javax.xml.crypto.dsig.XMLObject;
import javax.xml.crypto.dsig.XMLSignatureFactory;
import javax.xml.crypto.dsig.dom.DOMSignContext;
import javax.xml.crypto.dsig.keyinfo.KeyInfo;
import javax.xml.crypto.dsig.keyinfo.KeyInfoFactory;
import javax.xml.crypto.dsig.spec.C14NMethodParameterSpec;
import javax.xml.crypto.dsig.spec.TransformParameterSpec;
import javax.xml.crypto.dsig.spec.XPathFilterParameterSpec;
import javax.xml.parsers.DocumentBuilderFactory;
import javax.xml.transform.TransformerFactory;
import javax.xml.transform.dom.DOMSource;
import javax.xml.transform.stream.StreamResult;
import org.w3c.dom.Document;
import org.w3c.dom.Element;

/**
 * Signs a document by Java's own XML signature API, in the accepted form and in others.
 *
 * Run as: java XmlSigner.java FOLDER. The folder holds document.xml, and for rsa and ec each NAME.key (PKCS #8),
 * NAME.leaf and NAME.intermediate (DER); each form is written there as FORM.xml.
 */
public final class XmlSigner {
    private static final String MORE = "http://www.w3.org/2001/04/xmldsig-more#";
    private static final XMLSignatureFactory DOM = XMLSignatureFactory.getInstance("DOM");

    private final Path folder;
    private final PrivateKey key;
    private final List<X509Certificate> certificates;

    private XmlSigner(Path folder, String name, String algorithm) throws Exception {
        this.folder = folder;
        byte[] octets = Files.readAllBytes(folder.resolve(name + ".key"));
        key = KeyFactory.getInstance(algorithm).generatePrivate(new PKCS8EncodedKeySpec(octets));
        certificates = List.of(certificate(name + ".leaf"), certificate(name + ".intermediate"));
    }

    private X509Certificate certificate(String file) throws Exception {
        byte[] octets = Files.readAllBytes(folder.resolve(file));
        return (X509Certificate) CertificateFactory.getInstance("X.509")
            .generateCertificate(new ByteArrayInputStream(octets));
    }

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[0]);
        XmlSigner rsa = new XmlSigner(folder, "rsa", "RSA");
        XmlSigner ec = new XmlSigner(folder, "ec", "EC");
        rsa.write("rsa", new Form());
        ec.write("ec", new Form().with(f -> { f.signature = MORE + "ecdsa-sha256"; }));
        rsa.write("prefixed", new Form().with(f -> { f.prefix = "ds"; }));
        rsa.write("key-value", new Form().with(f -> { f.keyValue = true; }));

        rsa.write("exclusive", new Form().with(f -> { f.canonical = CanonicalizationMethod.EXCLUSIVE; }));
        rsa.write("exclusive-transform", new Form().with(f -> {
            f.transforms = List.of(Transform.ENVELOPED, CanonicalizationMethod.EXCLUSIVE);
        }));
        rsa.write("with-comments", new Form().with(f -> {
            f.transforms = List.of(Transform.ENVELOPED, CanonicalizationMethod.INCLUSIVE_WITH_COMMENTS);
        }));
        rsa.write("canonical-1.1", new Form().with(f -> { f.canonical = "http://www.w3.org/2006/12/xml-c14n11"; }));
        rsa.write("one-transform", new Form().with(f -> { f.transforms = List.of(Transform.ENVELOPED); }));
        rsa.write("extra-transform", new Form().with(f -> {
            f.transforms = List.of(Transform.ENVELOPED, CanonicalizationMethod.INCLUSIVE, CanonicalizationMethod.INCLUSIVE);
        }));
        rsa.write("xpath", new Form().with(f -> { f.xpath = true; }));
        rsa.write("sha1-digest", new Form().with(f -> { f.digest = DigestMethod.SHA1; }));
        rsa.write("sha512-digest", new Form().with(f -> { f.digest = DigestMethod.SHA512; }));
        rsa.write("rsa-sha1", new Form().with(f -> { f.signature = "http://www.w3.org/2000/09/xmldsig#rsa-sha1"; }));
        rsa.write("rsa-sha512", new Form().with(f -> { f.signature = MORE + "rsa-sha512"; }));
        rsa.write("rsa-pss", new Form().with(f -> { f.signature = "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1"; }));
        rsa.write("two-references", new Form().with(f -> { f.references = 2; }));
        rsa.write("by-id", new Form().with(f -> { f.uri = "#content"; }));
        rsa.write("no-certificate", new Form().with(f -> { f.keyValue = true; f.x509 = false; }));
        rsa.write("object", new Form().with(f -> { f.object = true; }));
        rsa.writeEnveloping("enveloping");
    }

    /** How a signature is made; as it stands, the accepted form. */
    private static final class Form {
        String canonical = CanonicalizationMethod.INCLUSIVE;
        String signature = MORE + "rsa-sha256";
        String digest = DigestMethod.SHA256;
        String uri = "";
        List<String> transforms = List.of(Transform.ENVELOPED, CanonicalizationMethod.INCLUSIVE);
        String prefix;
        int references = 1;
        boolean keyValue;
        boolean object;
        boolean x509 = true;
        boolean xpath;

        Form with(Consumer<Form> change) {
            change.accept(this);
            return this;
        }
    }

    private void write(String name, Form form) throws Exception {
        Document document = read();
        Element root = document.getDocumentElement();
        List<Transform> transforms = new java.util.ArrayList<>();
        for (String transform : form.transforms) {
            transforms.add(DOM.newTransform(transform, (TransformParameterSpec) null));
        }
        if (form.xpath) {
            transforms.add(DOM.newTransform(Transform.XPATH, new XPathFilterParameterSpec("true()")));
        }
        List<Reference> references = new java.util.ArrayList<>();
        for (int count = 0; count < form.references; count++) {
            references.add(DOM.newReference(form.uri, DOM.newDigestMethod(form.digest, null), transforms, null, null));
        }
        if (form.uri.startsWith("#")) {
            Element part = (Element) root.getElementsByTagName("Config").item(0);
            part.setAttribute("Id", form.uri.substring(1));
            part.setIdAttribute("Id", true);
        }
        SignedInfo info = signedInfo(form, references);
        List<XMLObject> objects = form.object
            ? List.of(DOM.newXMLObject(List.of(new DOMStructure(document.createElement("Config"))), null, null, null))
            : null;
        sign(document, root, form, info, objects);
        save(name, document);
    }

    private void writeEnveloping(String name) throws Exception {
        Form form = new Form();
        Document source = read();
        Document document = DocumentBuilderFactory.newDefaultNSInstance().newDocumentBuilder().newDocument();
        DOMStructure content = new DOMStructure(source.getDocumentElement());
        XMLObject object = DOM.newXMLObject(List.of(content), "content", null, null);
        Reference reference = DOM.newReference("#content", DOM.newDigestMethod(form.digest, null));
        SignedInfo info = signedInfo(form, List.of(reference));
        sign(document, document, form, info, List.of(object));
        save(name, document);
    }

    private SignedInfo signedInfo(Form form, List<Reference> references) throws Exception {
        return DOM.newSignedInfo(
            DOM.newCanonicalizationMethod(form.canonical, (C14NMethodParameterSpec) null),
            DOM.newSignatureMethod(form.signature, null),
            references);
    }

    private void sign(
        Document document, org.w3c.dom.Node parent, Form form, SignedInfo info, List<XMLObject> objects
    ) throws Exception {
        KeyInfoFactory keys = DOM.getKeyInfoFactory();
        List<javax.xml.crypto.XMLStructure> parts = new java.util.ArrayList<>();
        if (form.keyValue) {
            parts.add(keys.newKeyValue(certificates.get(0).getPublicKey()));
        }
        if (form.x509) {
            parts.add(keys.newX509Data(certificates));
        }
        KeyInfo info509 = keys.newKeyInfo(parts);
        DOMSignContext context = new DOMSignContext(key, parent);
        if (form.prefix != null) {
            context.setDefaultNamespacePrefix(form.prefix);
        }
        DOM.newXMLSignature(info, info509, objects, null, null).sign(context);
    }

    private Document read() throws Exception {
        return DocumentBuilderFactory.newDefaultNSInstance().newDocumentBuilder()
            .parse(folder.resolve("document.xml").toFile());
    }

    private void save(String name, Document document) throws Exception {
        TransformerFactory.newDefaultInstance().newTransformer()
            .transform(new DOMSource(document), new StreamResult(folder.resolve(name + ".xml").toFile()));
    }
}
