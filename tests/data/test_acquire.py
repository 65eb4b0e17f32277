"""The published datasets, as small trees with their real layout, served by a web server on this machine."""

import csv
import gzip
import hashlib
import io
import json
import tarfile
import zipfile

import manifold3d
import numpy as np
import pytest
import trimesh
from PIL import Image

from core.errors import UserError
from data.__main__ import main
from data.acquire import acquire, acquire_shard
from data.acquire import gso as fuel
from data.acquire.fetch import Fetch
from data.ledger import LEFT_OUT, Entry, read_ledger, write_entry
from data.load import BadMesh
from data.prepare import prepare_shard
from data.sources import acquired, list_objects, load
from data.store import Split
from tests.conftest import TINY

FETCH = Fetch(sleep=lambda _: None)
METADATA = 'name: "x"\nannotations {\n  categories {\n    first: "Shoe"\n  }\n}\n'


def picture(kind="PNG"):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[..., 0] = 200
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def obj(height, material):
    """An L-shaped solid: twice as long in x as deep, `height` along +Z, with texture coordinates."""
    mesh = corner(height)
    lines = [f"mtllib {material}", *(f"v {x} {y} {z}" for x, y, z in mesh.vertices), "vt 0.5 0.5", "usemtl skin"]
    return "\n".join([*lines, *(f"f {a}/1 {b}/1 {c}/1" for a, b, c in mesh.faces + 1)]).encode()


def corner(height):
    section = manifold3d.CrossSection([[(0, 0), (2, 0), (2, 0.4), (0.5, 0.4), (0.5, 1), (0, 1)]])
    solid = manifold3d.Manifold.extrude(section, height).to_mesh64()
    return trimesh.Trimesh(solid.vert_properties[:, :3], solid.tri_verts)


def mtl(texture):
    return f"newmtl skin\nKd 1 1 1\nmap_Kd {texture}\n".encode()


def gso_members(height=0.7):
    return {
        "meshes/model.obj": obj(height, "model.mtl"),
        "meshes/model.mtl": mtl("texture.png"),
        "materials/textures/texture.png": picture(),
        "metadata.pbtxt": METADATA.encode(),
        "model.config": b"<model/>",
        "thumbnails/0.jpg": b"jpeg",
    }


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def put(site, path, content):
    place = site.folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)


@pytest.fixture
def gso(site, tmp_path):
    """A mapping of `gso` whose Fuel serves two good models and five that are not."""
    archives = {
        "Good_Shoe": zipped(gso_members()),
        "Other_Shoe": zipped(gso_members(1.5)),
        "Cut_Short": zipped(gso_members())[:-400],
        "Climbs_Out": zipped({**gso_members(), "../../escaped.txt": b"x"}),
        "No_Mesh": zipped({"model.config": b"<model/>"}),
        "Not_A_Zip": b"<html>try again later</html>",
    }
    for name, content in archives.items():
        put(site, f"GoogleResearch/models/{name}.zip", content)
    return mapping(site, tmp_path, "gso", [*archives, "Is_Gone"])


def mapping(site, tmp_path, source, names, **more):
    path = tmp_path / f"{source}.csv"
    path.write_text("id,split,category\n" + "".join(f"{name},test,\n" for name in names))
    root = tmp_path / "raw" / source
    return {"source": source, "root": str(root), "url": site.url, "lists": [{"path": str(path)}], **more}


BAD_GSO = {
    "Cut_Short": "damaged",
    "Climbs_Out": "leads out of its folder",
    "No_Mesh": "has no meshes/model.obj",
    "Not_A_Zip": "damaged",
    "Is_Gone": "not found",
}


@pytest.mark.parametrize("jobs", [1, 3])
def test_what_can_be_had_comes_and_the_rest_is_left_out_with_its_reason(gso, tmp_path, jobs):
    entries = acquire(list_objects(gso), gso, fetch=FETCH, jobs=jobs)
    assert {name for name, entry in entries.items() if entry.status == LEFT_OUT} == set(BAD_GSO)
    for name, reason in BAD_GSO.items():
        assert reason in entries[name].reason
    assert entries["Good_Shoe"].category == "Shoe" and entries["Good_Shoe"].licence == "CC-BY-4.0"
    root = tmp_path / "raw/gso"
    kept = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert kept == sorted(["acquired.csv", *(f"{n}/{m}" for n in ("Good_Shoe", "Other_Shoe") for m in fuel.WANTED)])
    assert not list(tmp_path.rglob("escaped*"))


def test_a_scan_stands_upright_and_wears_its_texture(gso):
    specs = {spec.object: spec for spec in list_objects(gso)}
    acquire([specs["Good_Shoe"]], gso, fetch=FETCH)
    mesh = load(specs["Good_Shoe"], gso)
    assert np.ptp(mesh.vertices, axis=0) == pytest.approx([2, 0.7, 1])  # its height was along +Z, and is along +Y
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).volume == pytest.approx(1.1 * 0.7)  # not mirrored
    assert mesh.texture.pages[0][0, 0].tolist() == [200, 0, 0]


def test_prepared_shards_show_textures_and_say_who_made_them(gso, tmp_path):
    acquire(list_objects(gso), gso, fetch=FETCH)
    out = tmp_path / "prepared/test/00000.safetensors"
    params = {**TINY, "shading": "texture"}
    kept, left_out = prepare_shard(list_objects(gso), gso, params, out, dataset="gso")
    assert (kept, left_out) == (2, len(BAD_GSO))
    split = Split(tmp_path / "prepared", "test")
    image = split.image(0, 0).astype(int)
    solid = image[image[..., 3] == 255]
    assert len(solid) > 50 and (solid[:, 0] > solid[:, 1] + 40).all()  # red, though lossy
    assert {about["category"] for about in split.about} == {"Shoe"}
    rows = list(csv.DictReader(io.StringIO((tmp_path / "prepared/test/00000.quarantine.csv").read_text())))
    assert all(BAD_GSO[row["object"]] in row["reason"] for row in rows)

    from data.quarantine import collect

    credits = collect(tmp_path / "prepared", tmp_path / "q.csv", tmp_path / "m.json")["credits"]["gso"]
    assert credits["licences"] == {"CC-BY-4.0": 2} and "Downs" in credits["citation"]


def test_what_is_here_is_not_asked_for_again(gso, site):
    good = [spec for spec in list_objects(gso) if spec.object not in BAD_GSO]
    first = acquire(good, gso, fetch=FETCH)
    asked = len(site.asked)
    assert acquire(good, gso, fetch=FETCH) == first and len(site.asked) == asked


def test_a_download_that_was_interrupted_goes_on(gso, site):
    spec = next(spec for spec in list_objects(gso) if spec.object == "Good_Shoe")
    path = "/GoogleResearch/models/Good_Shoe.zip"
    site.cut[path] = 200

    def killed(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        acquire([spec], gso, fetch=Fetch(sleep=killed))
    assert acquire([spec], gso, fetch=FETCH)["Good_Shoe"].status == "ok"
    assert [wanted for asked, wanted in site.asked if asked == path] == ["", "bytes=200-"]


def test_what_came_first_must_come_ever_after(gso, site, tmp_path):
    spec = next(spec for spec in list_objects(gso) if spec.object == "Good_Shoe")
    first = acquire([spec], gso, fetch=FETCH)["Good_Shoe"]
    archive = site.folder / "GoogleResearch/models/Good_Shoe.zip"
    assert first.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    (tmp_path / "raw/gso/Good_Shoe/meshes/model.obj").unlink()
    old, new = archive.read_bytes(), zipped(gso_members(0.9))
    archive.write_bytes(new)
    for _ in range(2):  # also when it is tried again
        entry = acquire([spec], gso, fetch=FETCH)["Good_Shoe"]
        assert entry.status == LEFT_OUT and "wrong checksum" in entry.reason
    archive.write_bytes(old)
    assert acquire([spec], gso, fetch=FETCH)["Good_Shoe"] == first


def test_a_checksum_of_the_list_holds_from_the_first_time(gso, site, tmp_path):
    path = tmp_path / "sums.csv"
    good = hashlib.sha256((site.folder / "GoogleResearch/models/Good_Shoe.zip").read_bytes()).hexdigest()
    path.write_text(f"id,split,sha256\nGood_Shoe,test,{good}\nOther_Shoe,test,{'0' * 64}\n")
    listed = {**gso, "lists": [{"path": str(path)}]}
    entries = acquire(list_objects(listed), listed, fetch=FETCH)
    assert entries["Good_Shoe"].status == "ok" and "wrong checksum" in entries["Other_Shoe"].reason


def test_no_network_stops_the_run_with_one_sentence_and_blames_no_object(gso, tmp_path):
    nowhere = {**gso, "url": "http://127.0.0.1:9"}
    with pytest.raises(UserError, match="cannot be reached"):
        acquire(list_objects(nowhere), nowhere, fetch=Fetch(sleep=lambda _: None, pauses=()))
    assert read_ledger(tmp_path / "raw/gso") == {}


def test_fuels_collection_is_listed_page_by_page(gso, site):
    query = "per_page=100&q=collections:Scanned%20Objects%20by%20Google%20Research"
    pages = [["B", "A"], ["C"], []]
    for number, names in enumerate(pages, 1):
        models = [{"name": name, "owner": "GoogleResearch"} for name in names]
        models += [{"name": "Tractor", "owner": "OpenRobotics"}] if names else []
        site.pages[f"/models?page={number}&{query}"] = json.dumps(models).encode()
    assert fuel.catalogue(gso, FETCH) == ["A", "B", "C"]


# ---------------------------------------------------------------------------------------------- OmniObject3D


def scan(name, prefix=""):
    return {
        f"{prefix}{name}/Scan/Scan.obj": obj(0.7, "Scan.mtl"),
        f"{prefix}{name}/Scan/Scan.mtl": mtl("Scan.jpg"),
        f"{prefix}{name}/Scan/Scan.jpg": picture("JPEG"),
    }


def tarred(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def omni(site, tmp_path):
    """A mapping of `omniobject3d` whose archives lie where a person puts them."""
    names = ["anise_001", "anise_002", "toy_car_001", "apple_001", "pear_001"]
    source = mapping(site, tmp_path, "omniobject3d", names)
    del source["url"]
    archives = tmp_path / "raw/omniobject3d/archives"
    archives.mkdir(parents=True)
    (archives / "anise.tar.gz").write_bytes(tarred(scan("anise_001") | scan("anise_003")))
    (archives / "toy_car.zip").write_bytes(zipped(scan("toy_car_001", "toy_car/")))
    (archives / "apple.tar.gz").write_bytes(tarred(scan("apple_001"))[:-300])
    (archives / "pear.tar.gz").write_bytes(tarred(scan("pear_001") | {"../out.txt": b"x"}))
    return source


def test_raw_scans_come_out_of_the_archives_of_their_categories(omni, tmp_path):
    specs = list_objects(omni)
    entries = acquire(specs, omni, fetch=FETCH)
    assert {name for name, entry in entries.items() if entry.status == "ok"} == {"anise_001", "toy_car_001"}
    assert "has no anise_002/Scan/Scan.obj" in entries["anise_002"].reason
    assert "damaged" in entries["apple_001"].reason and "leads out" in entries["pear_001"].reason
    root = tmp_path / "raw/omniobject3d"
    assert sorted(p.name for p in (root / "raw_scans/toy_car/toy_car_001/Scan").iterdir()) == [
        "Scan.jpg", "Scan.mtl", "Scan.obj",
    ]  # fmt: skip
    assert not (root / "raw_scans/anise/anise_003").exists() and not (root / "raw_scans/apple").exists()
    car = next(spec for spec in specs if spec.object == "toy_car_001")
    assert car.category == "toy_car"
    mesh = load(car, omni)
    assert np.ptp(mesh.vertices, axis=0) == pytest.approx([2, 1, 0.7]) and mesh.texture is not None


def test_scans_that_are_unpacked_already_are_taken_as_they_are(omni, tmp_path):
    folder = tmp_path / "raw/omniobject3d/raw_scans/kiwi/kiwi_007/Scan"
    folder.mkdir(parents=True)
    (folder / "Scan.obj").write_bytes(obj(0.7, "Scan.mtl"))
    (tmp_path / "omniobject3d.csv").write_text("id,split\nkiwi_007,test\n")
    entry = acquire(list_objects(omni), omni, fetch=FETCH)["kiwi_007"]
    assert entry.status == "ok" and entry.sha256 == ""


def test_a_damaged_archive_stops_a_listing_with_one_sentence(omni, tmp_path):
    everything = ["acquire", "omniobject3d", "--all", "--root", str(tmp_path / "raw/omniobject3d")]
    with pytest.raises(UserError, match=r"cannot be listed: apple\.tar\.gz is damaged: .*get it again"):
        main(everything)


def test_a_registration_cannot_be_made_for_you(omni, tmp_path):
    (tmp_path / "raw/omniobject3d/archives/toy_car.zip").unlink()
    with pytest.raises(UserError, match=r"registration: download raw_scans/toy_car\.tar\.gz .*archives"):
        acquire(list_objects(omni), omni, fetch=FETCH)


def test_a_place_of_your_own_serves_archives(omni, site, tmp_path):
    (tmp_path / "raw/omniobject3d/archives/toy_car.zip").unlink()
    put(site, "toy_car.tar.gz", tarred(scan("toy_car_001")))
    source = {**omni, "url": site.url}
    specs = [spec for spec in list_objects(source) if spec.object == "toy_car_001"]
    assert acquire(specs, source, fetch=FETCH)["toy_car_001"].status == "ok"
    assert site.count("/toy_car.tar.gz") == 1


# ------------------------------------------------------------------------------------------------- Objaverse


@pytest.fixture
def objaverse(site, tmp_path):
    """A mapping of `objaverse` whose mirror has its tables and models as the package expects them."""
    licences = {"aa01": "by", "aa02": "by-nc", "bb01": "cc0", "bb02": "by-sa"}
    paths = {uid: f"glbs/000-{'023' if uid < 'b' else '045'}/{uid}.glb" for uid in licences}
    put(site, "object-paths.json.gz", gzip.compress(json.dumps(paths).encode()))
    model = corner(0.7)
    for folder in ("000-023", "000-045"):
        table = {
            uid: {"uid": uid, "name": f"Thing {uid}", "license": licence, "categories": [{"name": "cars"}],
                  "user": {"displayName": "Ann"}, "viewerUrl": f"https://sketchfab.com/{uid}"}
            for uid, licence in licences.items() if folder in paths[uid]
        }  # fmt: skip
        put(site, f"metadata/{folder}.json.gz", gzip.compress(json.dumps(table).encode()))
    for path in paths.values():
        put(site, path, model.export(file_type="glb"))
    (tmp_path / "broad.json").write_text(json.dumps(["aa01", "aa02", "bb01", "zz99"]))
    (tmp_path / "fine.txt").write_text("# high quality\nbb01\nbb02\n")
    lists = [{"path": str(tmp_path / "broad.json"), "split": "train", "phase": "broad"}]
    lists += [{"path": str(tmp_path / "fine.txt"), "split": "train", "phase": "fine"}]
    return {"source": "objaverse", "root": str(tmp_path / "raw/objaverse"), "url": site.url, "lists": lists}


def test_licences_are_looked_at_before_anything_is_downloaded(objaverse, site):
    entries = acquire(list_objects(objaverse), objaverse, fetch=FETCH)
    assert {name: entry.licence for name, entry in entries.items() if entry.status == "ok"} == {
        "aa01": "CC-BY-4.0", "bb01": "CC0-1.0", "bb02": "CC-BY-SA-4.0",
    }  # fmt: skip
    assert "by-nc, is not one of cc0, by, by-sa" in entries["aa02"].reason
    assert site.count("/glbs/000-023/aa02.glb") == 0
    assert "no object of this uid" in entries["zz99"].reason


def test_other_licences_may_be_asked_for(objaverse):
    mine = {**objaverse, "licences": ["by-nc"]}
    entries = acquire(list_objects(mine), mine, fetch=FETCH)
    assert [name for name, entry in entries.items() if entry.status == "ok"] == ["aa02"]


def test_the_package_is_asked_for_nothing_over_the_network(objaverse, monkeypatch):
    import urllib.request

    def forbidden(*arguments):
        raise AssertionError("the package went to the network by itself")

    monkeypatch.setattr(urllib.request, "urlretrieve", forbidden)
    assert acquire(list_objects(objaverse), objaverse, fetch=FETCH)["bb01"].status == "ok"


def test_prepared_objects_carry_their_own_licence_author_and_phases(objaverse, tmp_path):
    specs = list_objects(objaverse)
    acquire(specs, objaverse, fetch=FETCH)
    assert all(spec.licence for spec in acquired(specs, objaverse) if spec.object.startswith("bb"))
    out = tmp_path / "prepared/train/00000.safetensors"
    assert prepare_shard(specs, objaverse, TINY, out, dataset="objaverse") == (3, 2)
    split = Split(tmp_path / "prepared", "train")
    about = dict(zip(split.objects, split.about, strict=True))
    assert about["bb02"]["licence"] == "CC-BY-SA-4.0"
    assert about["bb02"]["attribution"] == "Thing bb02 by Ann, https://sketchfab.com/bb02"
    assert {uid: row["phases"] for uid, row in about.items()} == {"aa01": "broad", "bb01": "broad fine", "bb02": "fine"}
    assert sorted(split.objects[i] for i in split.of_phase("fine")) == ["bb01", "bb02"]


def test_tables_that_are_damaged_or_lead_elsewhere_are_one_sentence(objaverse, site, tmp_path):
    put(site, "object-paths.json.gz", gzip.compress(json.dumps({"aa01": "glbs/../../../x.glb"}).encode()))
    with pytest.raises(UserError, match=r"tables in .* are damaged"):
        acquire(list_objects(objaverse), objaverse, fetch=FETCH)


# ---------------------------------------------------------------------------------------------- for all of them


def test_a_shard_writes_what_became_of_its_objects(gso, tmp_path):
    out = tmp_path / "acquired/test/00000.csv"
    assert acquire_shard(list_objects(gso), gso, out, fetch=FETCH) == (2, len(BAD_GSO))
    first = out.read_bytes()
    assert acquire_shard(list_objects(gso), gso, out, fetch=FETCH) == (2, len(BAD_GSO))
    assert out.read_bytes() == first


def test_an_object_that_was_not_acquired_says_so(gso):
    spec = next(spec for spec in list_objects(gso) if spec.object == "Good_Shoe")
    with pytest.raises(BadMesh, match="not been acquired: run `python -m data acquire`"):
        load(spec, gso)


def test_a_line_that_a_killed_process_left_unfinished_is_passed_over(tmp_path):
    write_entry(tmp_path, Entry("a", "ok", path="a.obj"))
    with (tmp_path / "acquired.csv").open("a") as file:
        file.write("b,ok,b.o")
    write_entry(tmp_path, Entry("c", "ok", reason="with, comma"))
    assert set(read_ledger(tmp_path)) == {"a", "c"} and read_ledger(tmp_path)["c"].reason == "with, comma"
