"""Words and characters that sound alike and are typed for one another, written down by hand.

English words that people confuse; Chinese characters of one sound in Mandarin (zhuyin or pinyin, tones alike or
nearly), common ones only, in both scripts: what an input method offers beside the one that was meant. No number and no
word that turns the meaning round is among them.
"""

from __future__ import annotations

ENGLISH = """
their there they're | your you're | its it's | to too | then than | whose who's | were we're where | hear here
affect effect | lose loose | buy by bye | knew new | right write rite | weather whether | which witch | wait weight
week weak | would wood | our hour are | peace piece | plain plane | principal principle | see sea | seen scene
sight site cite | son sun | some sum | steal steel | tail tale | threw through | wear where | whole hole | for fore
be bee | brake break | cell sell | cent sent scent | check cheque | coarse course | complement compliment
council counsel | dear deer | die dye | fair fare | find fined | flour flower | great grate | heal heel
higher hire | him hymn | knight night | led lead | made maid | mail male | main mane | meat meet | morning mourning
of off | passed past | patience patients | pair pear pare | poor pour pore | pray prey | quiet quite | rain reign
read reed | road rode | role roll | sale sail | stationary stationery | suite sweet | thing think | throne thrown
ware wear | waist waste | way weigh | advice advise | allowed aloud | breath breathe | capital capitol
choose chose | desert dessert | formally formerly | lessen lesson | personal personnel | practice practise
receipt receive | recent resent | statement statment | definitely definately | separate seperate
transfer transfere
"""
CHINESE = """
的得地底 在再載 做作坐座 他她它牠 那哪納 是事試式市室視勢 是事试式市室视势 時石實識食 时石实识食 以已椅乙 意義議易異
意义议易异 有友 又右佑 要藥耀 要药耀 因音陰 因音阴 應英鷹 应英鹰 為位味衛 为位味卫 會惠匯慧繪 会惠汇慧绘 後候厚
后候厚 和合河何核 可渴 課客刻克 课客刻克 過國果 过国果 個各 个各 給幾己 给几己 記計季寄際既技繼 记计季寄际既技继
機基積雞激 机基积鸡激 級及急集極即 级及急集极即 進近盡勁 进近尽劲 今金斤津 經京精驚晶 经京精惊晶 就舊救究 就旧救究
件見建間健鍵漸劍 件见建间健键渐剑 家加佳嘉 價架假嫁 价架假嫁 將江姜漿 将江姜浆 講獎 讲奖 教叫較覺 教叫较觉 請情晴
请情晴 清輕青 清轻青 期妻漆 起企啟 起企启 氣器汽棄 气器汽弃 前錢潛 前钱潜 現線縣限獻陷 现线县限献陷 先鮮仙 先鲜仙
想響享 想响享 向像象項 向像象项 小曉 小晓 笑校效孝 學雪 学雪 新心欣辛 信芯 行形型刑 性姓興幸 性姓兴幸 消銷宵 消销宵
寫血 写血 謝洩瀉 谢泄泻 知之支只汁織 知之支只汁织 直職值植執 直职值植执 指紙止址只 指纸止址只 至志制治質製置致
至志制治质置致 中終鐘忠 中终钟忠 重種眾 重种众 主煮囑 主煮嘱 住注助祝著築 住注助祝著筑 真針珍貞 真针珍贞 張章彰
张章彰 長掌漲 长掌涨 帳賬障丈漲 帐账障丈涨 這者 这者 正證政症 正证政症 轉專磚 转专砖 出初 除廚 除厨 成程城誠呈
成程城诚呈 場常嘗 场常尝 生升聲昇 生升声 上尚 少紹 少绍 收首手守 手首守 受授售瘦 書輸舒梳叔 书输舒梳叔 數樹術述束
数树术述束 說碩朔 说硕朔 水稅 水税 誰隨 谁随 人仁任 認任刃 认任刃 如入 容融榮絨 容融荣绒 子紫仔 字自 自字 早找 走奏
最罪醉 作坐座做 才材財裁 才材财裁 次刺 從叢 从丛 錯措 错措 思私司斯 似寺 送宋 歲碎 岁碎 所鎖索 所锁索 包胞 保寶飽
保宝饱 報抱暴 报抱暴 本苯 必幣畢閉 必币毕闭 比筆彼 比笔彼 邊編鞭 边编鞭 變便遍辨 变便遍辨 表錶婊 表婊 布部步 怕帕
排牌 派湃 票漂 品聘 平評瓶憑屏 平评瓶凭屏 買賣邁 买卖迈 慢漫 梅煤 美每 門們 门们 密蜜 面麵 明名銘鳴 明名铭鸣 法發
法发 反返 方芳 房防妨 放訪 放访 飛菲 飞菲 費廢肺 费废肺 分紛芬 分纷芬 份奮憤 份奋愤 風封豐峰瘋 风封丰峰疯
付父負副富附復 付父负副富附复 大打 帶代袋待戴 带代袋待戴 單擔丹 单担丹 但蛋淡彈 但蛋淡弹 到道倒盜 到道倒盗 等登燈
等灯登 低滴 地第弟帝遞 地第弟帝递 點典 点典 電店墊 电店垫 掉調 掉调 定訂 定订 東冬 东冬 動洞凍 动洞冻 都督 讀獨毒
读独毒 度肚杜 段斷鍛 段断锻 對隊兌 对队兑 多朵 太泰態 太泰态 談彈壇 谈弹坛 特忒 提題 提题 天添 條調 条调 聽廳 听厅
同童銅 同童铜 頭投 头投 圖途突徒 图途突徒 推腿 男難南 男难南 能濃 能浓 你妳擬 你拟 年黏 女努 拉啦 來萊 来莱 老佬
了樂 了乐 累類淚 累类泪 里裡理禮 里理礼 力利立例歷麗 力利立例历丽 連聯憐 连联怜 量亮諒 量亮谅 流留劉 流留刘 路錄陸
路录陆 率綠律慮 率绿律虑 高糕 告搞 格隔革 公工功宮供 公工功宫供 夠購構 够购构 古股鼓 固故顧 固故顾 關官觀 关官观
管館 管馆 光廣 光广 貴櫃跪 贵柜跪 看勘 考烤 科棵顆 科棵颗 空恐 口扣 快塊筷 快块筷 款寬 款宽 況礦 况矿 還海 还海 好號
好号 喝呵 很狠 紅洪宏 红洪宏 話化畫劃 话化画划 壞懷 坏怀 換患 换患 活火 或獲貨惑 或获货惑
"""


def _table(written: str, between: str) -> dict[str, tuple[str, ...]]:
    """For each word those it may be typed as."""
    found: dict[str, list[str]] = {}
    for group in written.replace("\n", between).split(between):
        members = group.split() if between == "|" else list(group)
        for one in members:
            found.setdefault(one, []).extend(other for other in members if other != one)
    return {one: tuple(dict.fromkeys(others)) for one, others in found.items()}


ALIKE = _table(ENGLISH, "|") | _table(CHINESE, " ")
